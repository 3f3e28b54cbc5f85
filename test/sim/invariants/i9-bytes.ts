// I9: does a server that is not ours, or whose history is not, change a byte of what a relay keeps? Compared before and after
// each connection to one.
import { parseWalFileName, segmentStart, toSegmentSize } from '../../../src/pg/segment.ts';
import { isBeginningOf } from '../../../src/pg/timeline.ts';
import type { SimConnection } from '../machine/connection.ts';
import { SEGMENT_BYTES } from '../postgres/cluster.ts';
import type { Server } from '../postgres/server.ts';
import type { RelayHost } from '../relay-host.ts';
import { historyOf, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';

const SIZE = toSegmentSize(SEGMENT_BYTES);

/** Fields of the control file that say whose WAL it is. The others follow the writer, which may still be busy. */
const IDENTITY =
  /"(system_identifier|major|wal_segment_size|timeline|server_version|first_lsn|pending_switch|acknowledged_beyond)": .*/g;

/** What a relay had when it dialled. */
interface Visit {
  readonly host: RelayHost;
  readonly server: Server;
  readonly generation: number;
  readonly flushedLsn: bigint;
  readonly files: ReadonlyMap<string, Buffer>;
}

/** The checker. */
export function strangersChangeNothing(scene: Scene): Checker {
  const visits = new Map<SimConnection, Visit>();
  return {
    onDial(connection: SimConnection): void {
      const host = scene.relays.get(connection.process.host);
      const server = scene.servers.get(connection.far.process.host);
      if (host === undefined || server === undefined || !isForeign(scene, host, server)) return;
      // It is not the one that is asked to be followed.
      if (hasOther(scene, connection)) return;
      const flushedLsn = storedNow(host)?.flushedLsn ?? 0n;
      const { generation } = host.mounted.disk;
      visits.set(connection, { host, server, generation, flushedLsn, files: filesOf(host) });
    },
    onStart(stream): void {
      // Somebody else is followed again.
      for (const [connection, { host }] of visits) {
        if (host.name === stream.client && connection !== stream.connection) {
          visits.delete(connection);
        }
      }
    },
    afterStep(): void {
      for (const [connection, visit] of visits) {
        if (scene.network.connections.has(connection)) continue;
        visits.delete(connection);
        if (visit.generation !== visit.host.mounted.disk.generation) continue;
        if (!isForeign(scene, visit.host, visit.server)) continue;
        scene.world.count('stranger compared');
        compare(scene, visit);
      }
    },
  };
}

/** Another cluster, or a server whose history does not begin with ours. */
function isForeign(scene: Scene, host: RelayHost, server: Server): boolean {
  if (server.parts.cluster !== scene.cluster) return true;
  const stored = storedNow(host);
  const ours = stored === null ? null : historyOf(scene, stored.timeline);
  return ours !== null && !isBeginningOf(ours, server.history);
}

function hasOther(scene: Scene, connection: SimConnection): boolean {
  return [...scene.network.connections].some(
    (other) => other.isClient && other !== connection && other.process === connection.process,
  );
}

/** The control file and everything in pg_wal as it is now, by name. */
function filesOf(host: RelayHost): Map<string, Buffer> {
  const { disk } = host.mounted;
  const files = new Map<string, Buffer>();
  const control = disk.find(`${host.directory}/walcast.control`);
  if (control?.kind === 'file') files.set('control', contentOf(control));
  const directory = disk.find(`${host.directory}/pg_wal`);
  if (directory?.kind !== 'dir') return files;
  for (const [name, node] of directory.entries) {
    if (node.kind === 'file') files.set(name, contentOf(node));
  }
  return files;
}

function contentOf(file: { readonly data: Buffer; readonly size: number }): Buffer {
  return Buffer.from(file.data.subarray(0, file.size));
}

function compare(scene: Scene, { host, server, flushedLsn, files }: Visit): void {
  const place = { by: `${host.name} at ${server.name}` };
  const violate = (what: string): void => scene.verdict.violate('I9', what, place);
  const after = filesOf(host);
  for (const [name, before] of files) {
    const now = after.get(name);
    const isWal = parseWalFileName(name, SIZE) !== null;
    if (name === 'control') {
      const [was, is] = [identityOf(before), identityOf(now)];
      if (was !== is) violate(`the control file changed from ${was} to ${is}`);
    } else if (isWal && now !== undefined) {
      const count = flushedBytes(name, flushedLsn);
      if (!before.subarray(0, count).equals(now.subarray(0, count))) violate(`${name} changed`);
    } else if (name.endsWith('.history') && now?.equals(before) !== true) {
      violate(`${name} changed`);
    }
  }
  for (const name of after.keys()) {
    if (name.endsWith('.history') && !files.has(name)) violate(`${name} was stored`);
  }
}

function identityOf(control: Buffer | undefined): string {
  return (control?.toString('utf8').match(IDENTITY) ?? []).join(' ');
}

/** How much of a segment was flushed, so that it never changes again. */
function flushedBytes(name: string, flushedLsn: bigint): number {
  const parsed = parseWalFileName(name, SIZE);
  if (parsed === null) return 0;
  const count = flushedLsn - segmentStart(parsed.segment, SIZE);
  return count < 0n ? 0 : Number(count < BigInt(SEGMENT_BYTES) ? count : BigInt(SEGMENT_BYTES));
}
