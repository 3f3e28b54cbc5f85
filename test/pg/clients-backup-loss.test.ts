// What becomes of a pg_basebackup whose primary, client or walcast goes away in the middle, and of everybody else?
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { runTool, startTool } from '../harness/pg-tools.ts';
import type { RunningTool } from '../harness/pg-tools.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { backupPlace, verifyBackup } from '../support/clients-backup.ts';
import { connectArguments, openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { clientMajor, requires } from '../support/requirements.ts';

/** What Debian's pg_basebackup knows best; the rest is the same for every major. */
const MAJOR = clientMajor('pg_basebackup');

/** What pg_basebackup says of a server that is stopped. */
const STOPPED =
  /^pg_basebackup: error: (COPY stream ended before last file was finished|backup failed: FATAL: +terminating connection due to administrator command)$/;

const { describe } = requires('pg_basebackup', 'pg_receivewal', `postgres-${MAJOR}`);

describe('a pg_basebackup that is cut off', () => {
  let rig: ClientsRig;
  let standby: PostgresCluster;
  let sessionsBefore: unknown;
  let backups = 0;

  beforeAll(async () => {
    rig = await openClientsRig({ major: MAJOR });
    standby = await createStandby(rig.workspace, {
      major: MAJOR,
      name: 'standby',
      backupFrom: rig.relay.target(),
      upstream: rig.relay.target(),
    });
    await standby.start();
    const archive = await rig.workspace.makeDirectory('archive');
    startTool(rig.workspace, 'pg_receivewal', [...connectArguments(rig.relay), '-D', archive]);
    await rig.relay.waitForStatus(
      'a standby and an archive',
      ({ standbys }) => standbys.filter(({ state }) => state === 'streaming').length === 2,
    );
    sessionsBefore = await otherSessions();
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  afterEach(async () => {
    // Whatever happened, the others are the sessions they were.
    await backupsInWalcast(0);
    expect(await otherSessions()).toEqual(sessionsBefore);
    expect(rig.relay.problems()).toEqual([]);
    expect(rig.relay.log.filter((line) => line.includes('claims WAL'))).toEqual([]);
  });

  async function otherSessions(): Promise<unknown> {
    const { standbys } = await rig.relay.status();
    return standbys
      .filter(({ application_name: name }) => name !== 'pg_basebackup')
      .map(({ pid, application_name, connected_at, state }) => ({
        pid,
        application_name,
        connected_at,
        state,
      }));
  }

  async function backupsInWalcast(count: number): Promise<void> {
    await rig.relay.waitForStatus(
      `${count} backups`,
      ({ standbys }) => standbys.filter(({ state }) => state === 'backup').length === count,
    );
  }

  /** A slow backup that has begun to arrive. */
  async function beginBackup(
    args: readonly string[],
    server: { host: string; port: number } = rig.relay,
  ): Promise<RunningTool> {
    backups += 1;
    const directory = await backupPlace(rig.workspace, `backup-${backups}`);
    const tool = startTool(rig.workspace, 'pg_basebackup', [
      ...connectArguments(server),
      '--checkpoint=fast',
      '--max-rate=256k',
      '-D',
      directory,
      ...args,
    ]);
    const isTar = args.includes('t');
    await pollUntil(
      'files of a backup',
      async () => {
        const files: string[] = await readdir(directory).catch(() => []);
        return (isTar ? files.includes('base.tar') : files.length > 3) ? true : null;
      },
      { timeoutMs: 30_000 },
    );
    return tool;
  }

  /** The first line of what a tool that failed said. */
  async function firstComplaint(tool: RunningTool): Promise<string> {
    const { exitCode, stderr } = await tool.ended;
    expect(exitCode).toBe(1);
    return stderr.split('\n', 1)[0] ?? '';
  }

  async function catchesUp(): Promise<void> {
    await rig.relay.waitForStatus('walcast streaming', ({ state }) => state === 'streaming');
    await writeWal(rig.primary, 1);
    await standby.waitForReplay(await rig.primary.walPosition());
    expect(await tableDigest(standby)).toEqual(await tableDigest(rig.primary));
  }

  it('ends on the primary, too, when its client dies', async () => {
    const tool = await beginBackup(['-X', 'fetch']);
    await backupsInWalcast(1);
    const running = 'SELECT count(*)::text FROM pg_stat_progress_basebackup';
    expect(await rig.primary.value(running)).toBe('1');
    await tool.stop('SIGKILL');
    await rig.primary.waitForValue(running, '0');
    await catchesUp();
  });

  it('fails as one from the primary itself when the primary is stopped', async () => {
    const tools = [
      await beginBackup(['-X', 'stream'], rig.primary.target()),
      await beginBackup(['-X', 'stream']),
    ];
    await rig.primary.stop('fast');
    const complaints = await Promise.all(tools.map((tool) => firstComplaint(tool)));
    await rig.primary.start();
    // Which of the two depends on whether the end comes while a file is sent: two backups may be told differently.
    for (const complaint of complaints) expect(complaint).toMatch(STOPPED);
    await catchesUp();
  });

  it('fails when the primary dies', async () => {
    const tools = [
      await beginBackup(['-X', 'stream']),
      await beginBackup(['-X', 'none', '-F', 't']),
    ];
    await rig.primary.kill();
    for (const tool of tools) {
      // The second text is pg_basebackup's when it gets an error between two messages of an archive.
      expect(await firstComplaint(tool)).toMatch(
        /^pg_basebackup: error: (could not read COPY data: server closed the connection unexpectedly|COPY stream ended before last file was finished)$/,
      );
    }
  });

  it('does not begin while the primary is away, and says so', async () => {
    const place = join(rig.workspace.directory, 'never');
    const args = [...connectArguments(rig.relay), '-D', place];
    const { exitCode, stderr } = await runTool(rig.workspace, 'pg_basebackup', args);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('could not hand the command to the upstream server');
    expect(stderr).toContain(`could not connect to 127.0.0.1:${rig.primary.port}`);
  });

  it('can be taken again when the primary is back', async () => {
    await rig.primary.start();
    await catchesUp();
    const directory = await backupPlace(rig.workspace, 'again');
    const again = await runTool(rig.workspace, 'pg_basebackup', [
      ...connectArguments(rig.relay),
      '--checkpoint=fast',
      '-D',
      directory,
    ]);
    expect(again).toMatchObject({ exitCode: 0, stderr: '' });
    const verified = await verifyBackup(rig.workspace, directory, { hasWal: true });
    expect(verified).toMatchObject({ exitCode: 0, stderr: '' });
  });
});
