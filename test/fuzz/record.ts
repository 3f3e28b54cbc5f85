// Which sessions do inputs begin with that real programs had? Records them: a standby of PostgreSQL being made and started, and a
// walreceiver of walcast, each with a real server behind a proxy. `npm run fuzz -- --record` writes them into the corpus.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { openWireProxy } from '../harness/wire-proxy.ts';
import type { Direction, ProxyFrame, ProxyObserver, ProxySession } from '../harness/wire-proxy.ts';
import { startup } from '../support/raw-session.ts';
import { ReceiverRig } from '../support/receiver-rig.ts';
import { amount, formatInput, happens, say } from './engine/session.ts';
import type { FuzzSession, Step } from './engine/session.ts';
import { RIG_START_LSN } from './rig/made-wal.ts';
import { RIG_WANTED_LSN } from './rig/upstream-rig.ts';
import { query } from './targets/messages.ts';

const WAL_BYTES_MAX = 200;
const STEPS_MAX = 160;

/** What one connection said. */
interface Recorded {
  readonly applicationName: string;
  readonly client: Step[];
  readonly server: Step[];
  last: Direction;
}

/** Writes down everything that passes. */
class Scribe implements ProxyObserver {
  readonly sessions = new Map<ProxySession, Recorded>();

  onStartup(session: ProxySession, parameters: ReadonlyMap<string, string>): void {
    const client = [say(startup(Object.fromEntries(parameters)))];
    const applicationName = parameters.get('application_name') ?? '';
    this.sessions.set(session, { applicationName, client, server: [], last: 'fromClient' });
  }

  onFrame(session: ProxySession, direction: Direction, { type, body }: ProxyFrame): void {
    const recorded = this.sessions.get(session);
    if (recorded === undefined) return;
    const steps = direction === 'fromClient' ? recorded.client : recorded.server;
    if (direction !== recorded.last && steps.length > 0) steps.push(happens('turn'));
    recorded.last = direction;
    if (steps.length < STEPS_MAX) steps.push(frame(type, body));
  }

  of(applicationName: string): Recorded[] {
    return [...this.sessions.values()].filter((one) => one.applicationName === applicationName);
  }
}

function frame(type: number, body: Uint8Array): Step {
  const bytes = Buffer.alloc(5 + body.length);
  bytes.writeUInt8(type);
  bytes.writeUInt32BE(4 + body.length, 1);
  bytes.set(body, 5);
  return say(bytes);
}

function isCopyData({ kind, bytes }: Step, letter: string): boolean {
  return kind === 'say' && bytes[0] === 0x64 && bytes[5] === letter.charCodeAt(0);
}

/** What a client said, moved to where the WAL of the rig ends. */
function moveClient(steps: readonly Step[]): Step[] {
  let shift = 0n;
  return steps.flatMap((step) => {
    if (step.kind !== 'say') return [step];
    const bytes = Buffer.from(step.bytes);
    if (isCopyData(step, 'r')) {
      for (const at of [6, 14, 22]) {
        const value = bytes.readBigUInt64BE(at);
        if (value > 0n) bytes.writeBigUInt64BE(value > shift ? value - shift : 0n, at);
      }
      return [say(bytes), amount('wal', 100)];
    }
    const text = bytes[0] === 0x51 ? bytes.toString('utf8', 5, bytes.length - 1) : '';
    const [whole, slot, start] =
      /^START_REPLICATION (?:SLOT "(\w+)" )?([0-9A-F]+\/[0-9A-F]+)/.exec(text) ?? [];
    if (whole === undefined || start === undefined) return [step];
    shift = (parseLsn(start) ?? 0n) - RIG_START_LSN;
    const moved = query(text.replace(start, `0/${RIG_START_LSN.toString(16).toUpperCase()}`));
    if (slot === undefined) return [moved];
    return [query(`CREATE_REPLICATION_SLOT ${slot} PHYSICAL RESERVE_WAL`), happens('turn'), moved];
  });
}

/** What a server said, with less WAL, moved to where the store of the rig ends. */
function moveServer(steps: readonly Step[]): Step[] {
  let nextLsn = RIG_WANTED_LSN;
  return steps.map((step) => {
    const bytes = Buffer.from(step.bytes);
    if (isCopyData(step, 'k')) {
      bytes.writeBigUInt64BE(nextLsn, 6);
      return say(bytes);
    }
    if (!isCopyData(step, 'w')) return step;
    const data = bytes.subarray(30, 30 + WAL_BYTES_MAX);
    const header = bytes.subarray(5, 30);
    header.writeBigUInt64BE(nextLsn, 1);
    nextLsn += BigInt(data.length);
    header.writeBigUInt64BE(nextLsn, 9);
    return frame(0x64, Buffer.concat([header, data]));
  });
}

async function recordMajor(workspace: Workspace, major: number, directory: string): Promise<void> {
  const primary = await createPrimary(workspace, {
    major,
    name: `p${major}`,
    settings: { wal_keep_size: '512MB' },
  });
  await primary.start();
  const scribe = new Scribe();
  const proxy = await openWireProxy({ target: () => primary.target(), observer: scribe });
  const upstream = { ...primary.target(), port: proxy.port };
  await primary.query("SELECT pg_create_physical_replication_slot('standby')");
  const standby = await createStandby(workspace, {
    major,
    name: `s${major}`,
    backupFrom: upstream,
    upstream,
    slot: 'standby',
  });
  await standby.start();
  await primary.query('CREATE TABLE t AS SELECT generate_series(1, 300) AS i');
  await standby.waitForReplay(await primary.walPosition());
  const start = await primary.walPosition();
  const rig = new ReceiverRig({ port: proxy.port, user: upstream.user, start, slot: 'walcast' });
  rig.receiver.start();
  await rig.untilState('streaming');
  for (let count = 1; count <= 3; count += 1) {
    await primary.query('INSERT INTO t SELECT generate_series(1, 30)');
    await rig.until('some WAL came', () => rig.sink.appended >= count);
  }
  rig.receiver.stop();
  const write = (target: string, what: string, sessions: readonly FuzzSession[]): void => {
    const name = `${target}-${what}-${major}.json`;
    writeFileSync(
      join(directory, name),
      formatInput({ target, sessions }, { recorded: `PostgreSQL ${major}, ${what}` }),
    );
  };
  const session = (steps: readonly Step[], variant: number): FuzzSession => ({
    steps,
    chunk: 0,
    variant,
  });
  const variant = major - 13;
  const backups = [...scribe.sessions.values()].filter(
    ({ client, applicationName }) =>
      applicationName !== 'walcast' && !client.some((step) => isCopyData(step, 'r')),
  );
  const commands = backups.map(({ client }) => session(moveClient(client), variant));
  write('commands', 'pg_basebackup', commands);
  const standbys = [...scribe.sessions.values()].filter(({ client }) =>
    client.some((step) => isCopyData(step, 'r')),
  );
  write(
    'copyboth',
    'standby',
    standbys
      .filter((one) => one.applicationName !== 'walcast')
      .map(({ client }) => session(moveClient(client), variant)),
  );
  write(
    'upstream',
    'server',
    scribe.of('walcast').map(({ server }) => session(moveServer(server), 1)),
  );
  await proxy.close();
}

/** Records sessions of PostgreSQL 15 and 18 into `directory`. */
export async function recordSessions(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const workspace = await openWorkspace(await serverUser());
  try {
    for (const major of [15, 18]) await recordMajor(workspace, major, directory);
  } finally {
    await workspace.close();
  }
}
