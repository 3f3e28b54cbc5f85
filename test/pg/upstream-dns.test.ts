// A name that leads to two primaries in turn, every second: is it looked up anew for each connection, and does walcast stay with
// the history that it has followed, without a byte of the other one?
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { freePort } from '../harness/free-port.ts';
import { historyOf, timelineWalViolations } from '../harness/timeline-wal.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { needs, NEWEST_MAJOR } from '../support/requirements.ts';

const NAME = 'pg.walcast.test';

/** Why this machine cannot give a process name lookups of its own; null when it can. */
function lookupProblem(): string | null {
  const made = spawnSync('unshare', ['--mount', 'true'], { encoding: 'utf8' });
  if (made.error !== undefined) return 'unshare is not installed';
  return made.status === 0 ? null : `no mount namespace can be made: ${made.stderr.trim()}`;
}

/** An address of loopback behind which a server is. */
class Door implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: PostgresCluster) {
    this.#server = createServer((client) => {
      const server = connect(target.port, '127.0.0.1');
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#sockets.add(from);
        from.on('error', () => {});
        from.on('close', () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
  }

  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, resolve);
    });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

test('a name that flips between two primaries every second: one history, byte for byte', async (context) => {
  needs(context, lookupProblem());
  await using workspace = await openWorkspace(await serverUser());
  const settings = { wal_keep_size: '2GB' };
  const old = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'old', settings });
  await old.start();
  const promoted = await createStandby(workspace, {
    major: NEWEST_MAJOR,
    name: 'promoted',
    settings,
    backupFrom: old.target(),
    upstream: old.target(),
  });
  await promoted.start();

  const port = await freePort();
  await using first = new Door(old);
  await using second = new Door(promoted);
  await first.listen('127.0.0.1', port);
  await second.listen('127.0.0.2', port);
  const hosts = join(workspace.directory, 'hosts');
  /** From now on the name leads there; connections are lost, so that it has to be asked. */
  const lead = async (to: 0 | 1): Promise<void> => {
    await writeFile(hosts, `127.0.0.1 localhost\n127.0.0.${to + 1} ${NAME}\n`);
    first.cut();
    second.cut();
  };
  await lead(0);
  const relay = await createRelay(workspace, {
    name: 'walcast',
    upstream: () => ({ host: NAME, port }),
    place: {
      wrapper: [
        'unshare',
        '--mount',
        'sh',
        '-c',
        `mount --bind ${hosts} /etc/hosts && exec "$@"`,
        'sh',
      ],
      host: '127.0.0.1',
      listenHost: '127.0.0.1',
      hba: 'host replication all 127.0.0.1/32 trust\n',
    },
  });
  await relay.start();
  const streams = (timeline: number, status: StatusJson): boolean =>
    status.timeline === timeline && status.state === 'streaming';
  await relay.waitForStatus('streaming from the first', (status) => streams(1, status));

  const oldLoad = await startWriteLoad(old, 1, 5);
  await oldLoad.waitForCommits(100);
  await promoted.promote();
  const newLoad = await startWriteLoad(promoted, 1, 5);

  const timelines: number[] = [];
  const flip = async (times: number): Promise<void> => {
    for (let turn = 0; turn < times; turn += 1) {
      await lead(turn % 2 === 0 ? 1 : 0);
      await pause(1_000);
      timelines.push((await relay.status()).timeline ?? 0);
    }
  };
  await flip(4);
  await lead(1);
  await relay.waitForStatus('streaming from the promoted', (status) => streams(2, status));
  await lead(0);
  await relay.waitForStatus(
    'the old primary being refused',
    ({ state, detail }) => state === 'diverged' && detail?.includes('timeline 1') === true,
  );
  await flip(3);
  await lead(1);
  await relay.waitForStatus('streaming again', (status) => streams(2, status));

  await Promise.all([oldLoad.stop(), newLoad.stop()]);
  expect(timelines).toEqual(timelines.toSorted((a, b) => a - b));
  const endLsn = await promoted.walPosition();
  const { store } = await relay.waitForStatus(
    'everything on the disk',
    (status) => (parseLsn(status.store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
  );
  const violations = await timelineWalViolations({
    expected: promoted.walDirectory,
    actual: relay.walDirectory,
    history: await historyOf(promoted, 2),
    segmentSize: toSegmentSize(16 << 20),
    endLsn,
    mustHave: parseLsn(store.oldest_lsn ?? '0/0'),
  });
  expect(violations).toEqual([]);
}, 120_000);
