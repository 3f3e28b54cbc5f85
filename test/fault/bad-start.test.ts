// What happens when walcast is started where it cannot work? One clear line with the next step, the documented exit code,
// and nothing changed on disk.
import { chmod, mkdir, readFile, readdir, rm, statfs, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import type { ServerUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { freePort } from '../harness/free-port.ts';
import { query, RawClient, STANDBY, startup } from '../support/raw-client.ts';
import { FULL_FAULTS, itWhen, NEWEST_MAJOR, needs } from '../support/requirements.ts';
import { ScriptedUpstream, errorResponse, playedServer } from '../support/scripted-upstream.ts';
import {
  attempt,
  complaints,
  copyTree,
  fingerprint,
  httpJson,
  logLines,
  mountTmpfs,
  remount,
  told,
  unprivilegedProblem,
  waitForFailedConnects,
  waitForFlushed,
  waitForState,
} from './fault-support.ts';
import type { AttemptOptions } from './fault-support.ts';

/** What a start leaves that has seen no upstream: nothing in the directories. */
const SKELETON = ['/', 'page_sums/', 'pg_replslot/', 'pg_wal/', 'walcast.auth-seed'];

let workspace: Workspace;
let user: ServerUser | null;
let primary: PostgresCluster;
/** How a person ends it. */
const SIGNALS = FULL_FAULTS ? (['SIGTERM', 'SIGINT'] as const) : (['SIGTERM'] as const);

/** A store with WAL, stopped in order; tests work on copies of it. */
let template: string;
/** Nobody listens there. */
let deadPort: number;
let copies = 0;

beforeAll(async () => {
  user = await serverUser();
  workspace = await openWorkspace(user);
  primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
  await primary.start();
  deadPort = await freePort();
  template = join(workspace.directory, 'template');
  const started = await attempt(workspace, {
    directory: template,
    upstreamPort: primary.port,
    slot: '',
  });
  await waitForState(started, 'streaming');
  await primary.query('CREATE TABLE t AS SELECT generate_series(1, 10000) AS i');
  const endLsn = await primary.walPosition();
  await started.process.waitForLog(/upstream: caught up/);
  await waitForFlushed(started, endLsn);
  expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  await removePreparedSegments(join(template, 'pg_wal'));
});

afterAll(async () => {
  await workspace.close();
});

/** The next segment, made ahead of time and still all zeros, is thrown away by every start; here nothing may change. */
async function removePreparedSegments(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const bytes = await readFile(join(directory, name));
    if (bytes.every((byte) => byte === 0)) await rm(join(directory, name));
  }
}

async function storeCopy(): Promise<string> {
  copies += 1;
  const directory = join(workspace.directory, `store-${copies}`);
  await copyTree(template, directory);
  return directory;
}

/** Starts walcast and expects that it ends by itself with exit code 1 and one complaint, which is given back. */
async function refusal(options: Partial<AttemptOptions> & { directory: string }): Promise<string> {
  const started = await attempt(workspace, { upstreamPort: deadPort, ...options });
  const end = await started.process.ended;
  const lines = complaints(started.process);
  expect({ end, lines: lines.map(({ level }) => level) }, started.process.log.join('\n')).toEqual({
    end: { exitCode: 1, signal: null },
    lines: ['error'],
  });
  return told(lines[0]);
}

async function occupy(): Promise<{ server: Server; port: number }> {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return { server, port };
}

describe('a port that is taken', () => {
  it.each(['port', 'httpPort'] as const)('%s: ends the start, store untouched', async (which) => {
    const directory = await storeCopy();
    const before = await fingerprint(directory);
    const { server, port } = await occupy();
    try {
      const text = await refusal({ directory, [which]: port });
      expect(text).toContain(`127.0.0.1:${port}`);
      expect(text).toMatch(/in use/);
      expect(text).toMatch(which === 'port' ? /listen/ : /http\.listen/);
      expect(await fingerprint(directory)).toEqual(before);
    } finally {
      server.close();
    }
  });
});

describe('a data directory that cannot be used', () => {
  it('lets others in: the command that closes it is named', async () => {
    const directory = await storeCopy();
    await chmod(directory, 0o755);
    const before = await fingerprint(directory);
    const text = await refusal({ directory });
    expect(text).toContain('0755');
    expect(text).toContain(`chmod 0700 '${directory}'`);
    expect(await fingerprint(directory)).toEqual(before);
  });

  it('may not be written: the owner is named as the next step', async (context) => {
    const problem = await unprivilegedProblem(user);
    needs(context, problem);
    const directory = await storeCopy();
    await workspace.giveAwayTree(directory);
    await chmod(directory, 0o500);
    const before = await fingerprint(directory);
    const text = await refusal({ directory, user });
    expect(text).toContain(directory);
    expect(text).toMatch(/permission denied|EACCES/);
    expect(text).toMatch(/own|write/);
    expect(await fingerprint(directory)).toEqual(before);
  });

  it('is missing below a directory that may not be written', async (context) => {
    const problem = await unprivilegedProblem(user);
    needs(context, problem);
    const parent = await workspace.makeDirectory('closed');
    await chmod(parent, 0o500);
    const text = await refusal({ directory: join(parent, 'store'), user });
    expect(text).toContain(join(parent, 'store'));
    expect(text).toMatch(/permission denied|EACCES/);
    expect(await readdir(parent)).toEqual([]);
  });

  it("is a PostgreSQL server's", async () => {
    const directory = primary.dataDirectory;
    const names = await readdir(directory);
    const text = await refusal({ directory });
    expect(text).toContain('is the data directory of a PostgreSQL server');
    expect(text).toContain('storage.directory');
    expect(await readdir(directory)).toEqual(names);
    // Its pg_wal alone is no place either.
    expect(await refusal({ directory: primary.walDirectory })).toContain("not walcast's");
  });

  it('is a file, or a link to nowhere', async () => {
    const file = join(workspace.directory, 'a-file');
    await writeFile(file, 'mine');
    expect(await refusal({ directory: file })).toContain(file);
    expect(await readFile(file, 'utf8')).toBe('mine');
    const link = join(workspace.directory, 'a-link');
    await symlink(join(workspace.directory, 'nowhere'), link);
    expect(await refusal({ directory: link })).toContain(link);
  });

  it('has a control file that is damaged', async () => {
    const directory = await storeCopy();
    const control = join(directory, 'walcast.control');
    const text = await readFile(control, 'utf8');
    await writeFile(control, text.replace('"timeline": 1', '"timeline": 2'));
    const before = await fingerprint(directory);
    expect(await refusal({ directory })).toMatch(/walcast\.control" is damaged.*checksum/);
    expect(await fingerprint(directory)).toEqual(before);
  });

  it('lacks the segment that holds its durable end', async () => {
    const directory = await storeCopy();
    const segments = await readdir(join(directory, 'pg_wal'));
    for (const name of segments) await rm(join(directory, 'pg_wal', name));
    const before = await fingerprint(directory);
    expect(await refusal({ directory })).toMatch(/segment ".*" is missing/);
    expect(await fingerprint(directory)).toEqual(before);
  });

  it('is on a file system that is read-only', async (context) => {
    const mount = await workspace.makeDirectory('read-only');
    const problem = await mountTmpfs(workspace, mount, 'size=256m,mode=0700');
    needs(context, problem);
    await copyTree(template, join(mount, 'store'));
    await remount(mount, 'ro');
    const before = await fingerprint(mount);
    for (const directory of [join(mount, 'store'), join(mount, 'new')]) {
      const text = await refusal({ directory });
      expect(text).toContain(directory);
      expect(text).toMatch(/read-only/);
    }
    expect(await fingerprint(mount)).toEqual(before);
  });
});

describe('a disk that is full', () => {
  let mount: string;
  let filler: string;
  let problem: string | null;

  beforeAll(async () => {
    mount = await workspace.makeDirectory('small');
    filler = join(mount, 'filler');
    problem = await mountTmpfs(workspace, mount, 'size=64m,mode=0700');
  });

  afterEach(async () => {
    for (const name of await readdir(mount)) await rm(join(mount, name), { recursive: true });
  });

  /** Takes all space but `leaveBytes`. */
  async function fill(leaveBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(mount);
    await writeFile(filler, new Uint8Array(bavail * bsize - leaveBytes));
  }

  it('does not keep a store that is there from serving what it has', async (context) => {
    needs(context, problem);
    const directory = join(mount, 'store');
    await copyTree(template, directory);
    // Recovery writes what it found back before it trusts it, so times may differ.
    const before = await fingerprint(directory, { withTimes: false });
    await fill(0);
    const started = await attempt(workspace, { directory, upstreamPort: deadPort });
    await waitForFailedConnects(started, 1);
    const line = complaints(started.process).filter(({ msg }) => /space/.test(msg));
    expect(line.map(({ fields }) => fields['next'])).toEqual([
      expect.stringMatching(/^free space in storage\.directory/),
    ]);
    const { client } = await RawClient.standby(started.port);
    const [, row] = await client.ask('IDENTIFY_SYSTEM');
    expect(row).toMatch(/^D \d+,1,/);
    client.close();
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    expect(await fingerprint(directory, { withTimes: false })).toEqual(before);
  });

  it('does not end a new one: it waits, says so once, and goes on when there is space', async (context) => {
    needs(context, problem);
    // Room for the control file, none for a segment.
    await fill(1 << 20);
    const directory = join(mount, 'store');
    const started = await attempt(workspace, { directory, upstreamPort: primary.port, slot: '' });
    const line = await started.process.waitForLog(/space/i);
    expect(line).toMatch(/ENOSPC|no space/i);
    await primary.query('INSERT INTO t VALUES (1)');
    await rm(filler);
    await waitForFlushed(started, await primary.walPosition());
    expect(complaints(started.process).filter(({ msg }) => /space/i.test(msg))).toHaveLength(1);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  });

  it('has no room even for the control file: one clear line, no crash', async (context) => {
    needs(context, problem);
    await fill(0);
    const directory = join(mount, 'store');
    const started = await attempt(workspace, { directory, upstreamPort: primary.port, slot: '' });
    // Nor for the seed, which comes before and has a line of its own.
    const line = await started.process.waitForLog(/upstream: .*space/i);
    expect(line).toMatch(/[Ff]ree space/);
    expect(started.process.log.join('\n')).not.toMatch(/crashed/);
    await rm(filler);
    await waitForState(started, 'streaming');
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  });
});

describe('a second process on the same directory', () => {
  it('is refused by name, changes nothing, and the first goes on', async () => {
    const directory = await storeCopy();
    const first = await attempt(workspace, { directory, upstreamPort: deadPort });
    await waitForFailedConnects(first, 1);
    const before = await fingerprint(directory);
    const text = await refusal({ directory });
    expect(text).toContain(`another walcast (pid ${first.process.pid})`);
    expect(text).toContain('storage.directory');
    expect(await fingerprint(directory)).toEqual(before);
    await waitForFailedConnects(first, 1);
    expect(await first.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  });

  it('starts after the first was killed, however often', async () => {
    const directory = await storeCopy();
    for (let round = 0; round < (FULL_FAULTS ? 3 : 1); round += 1) {
      const killed = await attempt(workspace, { directory, upstreamPort: primary.port, slot: '' });
      await waitForState(killed, 'streaming');
      expect(complaints(killed.process)).toEqual([]);
      expect(await killed.process.stop('SIGKILL')).toEqual({ exitCode: null, signal: 'SIGKILL' });
    }
    expect(await readdir(directory)).toContain('walcast.lock');
    const last = await attempt(workspace, { directory, upstreamPort: primary.port, slot: '' });
    await waitForState(last, 'streaming');
    expect(await last.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  });

  itWhen(FULL_FAULTS)(
    'of four that start at once over the lock of a dead one, one wins',
    async () => {
      const directory = await storeCopy();
      const dead = await attempt(workspace, { directory, upstreamPort: deadPort });
      await waitForFailedConnects(dead, 1);
      await dead.process.stop('SIGKILL');
      const all = await Promise.all(
        [1, 2, 3, 4].map(() => attempt(workspace, { directory, upstreamPort: deadPort })),
      );
      const ended = all.map(({ process }) => process.ended);
      await Promise.any(ended.map(async (_, left) => await Promise.all(ended.toSpliced(left, 1))));
      const [winner] = all.filter(({ process }) => process.end === null);
      if (winner === undefined) throw new Error('nobody runs');
      await waitForFailedConnects(winner, 1);
      expect(await winner.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
      for (const { process } of all.filter((each) => each !== winner)) {
        expect(process.end).toEqual({ exitCode: 1, signal: null });
        expect(complaints(process).map(told).join('\n')).toMatch(/another walcast .* is using/);
      }
    },
  );
});

describe('a configuration that is wrong', () => {
  it('names file, line, column and the key that was meant; exit code 78, nothing made', async () => {
    const directory = join(workspace.directory, 'never');
    const started = await attempt(workspace, {
      directory,
      upstreamPort: deadPort,
      extraYaml: 'wal_sender_timeot: 60s\n',
    });
    expect(await started.process.ended).toEqual({ exitCode: 78, signal: null });
    expect(started.process.log).toHaveLength(1);
    const text = await readFile(started.configurationFile, 'utf8');
    const line = text.split('\n').indexOf('wal_sender_timeot: 60s') + 1;
    expect(started.process.log[0]).toContain(`${started.configurationFile}:${line}:1`);
    expect(started.process.log[0]).toContain('wal_sender_timeout');
    await expect(readdir(directory)).rejects.toThrow('ENOENT');
  });

  it('without access rules opens no TCP port and shows a rule to start from', async () => {
    const directory = join(workspace.directory, 'no-rules');
    const started = await attempt(workspace, {
      directory,
      upstreamPort: primary.port,
      slot: '',
      hba: null,
    });
    await waitForState(started, 'streaming');
    const lines = complaints(started.process);
    expect(lines.map(({ level }) => level)).toEqual(['warn']);
    expect(lines[0]?.msg).toContain('no TCP port is opened');
    const rule = /: (host .*)$/.exec(lines[0]?.msg ?? '')?.[1];
    await expect(RawClient.open(started.port)).rejects.toThrow('ECONNREFUSED');
    await started.process.stop('SIGTERM');
    // The rule that is shown works.
    const ruled = await attempt(workspace, {
      directory,
      upstreamPort: primary.port,
      slot: '',
      hba: `${rule}\n`,
    });
    await waitForState(ruled, 'streaming');
    const { client } = await RawClient.standby(ruled.port);
    client.close();
    const warning = logLines(ruled.process).find(({ msg }) => /"trust" lets anybody/.test(msg));
    expect(warning?.level).toBe('warn');
    expect(warning?.msg).toContain(rule);
    await ruled.process.stop('SIGTERM');
  });
});

describe('an upstream that is too old', () => {
  it('ends the program at first contact; on disk is the empty skeleton', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const directory = join(workspace.directory, 'too-old');
    const started = await attempt(workspace, { directory, upstreamPort: upstream.port });
    const session = await upstream.accept();
    await session.login(playedServer({ serverVersion: '12.20' }));
    session.identify(playedServer({ serverVersion: '12.20' })).catch(() => {});
    expect(await started.process.ended).toEqual({ exitCode: 1, signal: null });
    expect(upstream.accepted).toBe(1);
    const errors = complaints(started.process).map(told);
    expect(errors.join('\n')).toMatch(/PostgreSQL 12; this walcast speaks 13 to \d\d/);
    expect(errors.join('\n')).toMatch(/Upgrade the server/);
    expect(Object.keys(await fingerprint(directory)).toSorted()).toEqual(SKELETON);
    expect(errors).toHaveLength(1);
  });

  it('changes nothing in a store that is there', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const directory = await storeCopy();
    const before = await fingerprint(directory, { withTimes: false });
    const started = await attempt(workspace, { directory, upstreamPort: upstream.port });
    const session = await upstream.accept();
    await session.login(playedServer({ serverVersion: '9.6.24' }));
    session.identify(playedServer({ serverVersion: '9.6.24' })).catch(() => {});
    expect(await started.process.ended).toEqual({ exitCode: 1, signal: null });
    expect(await fingerprint(directory, { withTimes: false })).toEqual(before);
  });
});

describe('an upstream that cannot be reached', () => {
  it('is tried again and again, with one line for each reason; clients hear 57P03', async () => {
    const directory = join(workspace.directory, 'unreachable');
    const port = await freePort();
    const started = await attempt(workspace, { directory, upstreamPort: port });
    await waitForFailedConnects(started, 3);
    await waitForState(started, 'connecting');
    expect(complaints(started.process).map(told)).toEqual([
      expect.stringMatching(
        new RegExp(`could not connect to 127\\.0\\.0\\.1:${port}: connection refused.*running`),
      ),
    ]);
    expect((await httpJson(started.httpPort, '/readyz'))['status']).toBe('unavailable');
    expect((await httpJson(started.httpPort, '/livez'))['status']).toBe('ok');
    const client = await RawClient.open(started.port);
    client.send(startup(STANDBY));
    const error = await client.error();
    expect([error['S'], error['C']]).toEqual(['FATAL', '57P03']);

    await using upstream = await ScriptedUpstream.listen(port);
    for (let count = 0; count < 2; count += 1) {
      const session = await upstream.accept();
      await session.startup();
      session.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
      session.end();
    }
    const lines = complaints(started.process);
    expect(lines).toHaveLength(2);
    expect(told(lines[1])).toMatch(/the database system is starting up.*tries again/);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    expect(Object.keys(await fingerprint(directory)).toSorted()).toEqual(SKELETON);
  });

  it('does not keep a store from serving what it has', async () => {
    const directory = await storeCopy();
    const started = await attempt(workspace, { directory, upstreamPort: deadPort });
    await waitForFailedConnects(started, 1);
    const { client } = await RawClient.standby(started.port);
    const [, row] = await client.ask('IDENTIFY_SYSTEM');
    expect(row).toMatch(/^D \d+,1,/);
    client.close();
    expect(complaints(started.process)).toHaveLength(1);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  });
});

describe('a drain that waits for a standby', () => {
  it.each(SIGNALS)('ends at once by a second signal: %s', async (second) => {
    const started = await attempt(workspace, {
      directory: await storeCopy(),
      upstreamPort: deadPort,
      extraYaml: 'drain_timeout: 1h\n',
    });
    await waitForFailedConnects(started, 1);
    const { client } = await RawClient.standby(started.port);
    const { oldest_lsn } = await httpJson(started.httpPort, '/api/v1/store');
    // This one takes everything and never says that it has it.
    client.send(query(`START_REPLICATION ${String(oldest_lsn)} TIMELINE 1`));
    expect((await client.next())?.type).toBe('W');
    started.process.signal('SIGTERM');
    await started.process.waitForLog(/"draining"/);
    expect(await started.process.stop(second)).toEqual({ exitCode: 0, signal: null });
    expect(logLines(started.process).map(told)).toContain('walcast stops at once');
  });
});

describe('a start that is interrupted', () => {
  it.each(SIGNALS)('by %s leaves no lock and no half of a store', async (signal) => {
    const directory = join(workspace.directory, `interrupted-${signal}`);
    await mkdir(directory, { mode: 0o700 });
    const started = await attempt(workspace, { directory, upstreamPort: deadPort });
    await started.process.waitForLog(/walcast starts/);
    expect(await started.process.stop(signal)).toEqual({ exitCode: 0, signal: null });
    expect((await readdir(directory)).filter((name) => name.includes('lock'))).toEqual([]);
  });
});
