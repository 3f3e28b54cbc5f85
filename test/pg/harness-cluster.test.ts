// Do the servers of the tests start, stop, crash, promote and go away as they should?
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import {
  isProcessAlive,
  openWorkspace,
  removeStaleWorkspaces,
} from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { TEST_MAJORS, newestMajors } from '../support/requirements.ts';

describe.each(newestMajors())('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
  });

  afterAll(async () => {
    await workspace.close();
    expect(await readdir(workspace.directory).catch(() => null)).toBeNull();
  });

  it('answers queries with the version that was asked for', async () => {
    expect(await primary.value('SHOW server_version')).toMatch(new RegExp(`^${major}\\.`));
  });

  it('is copied into a standby that follows it and can be promoted', async () => {
    const progress: number[] = [];
    const standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: primary.target(),
      onBackupProgress: (bytes) => progress.push(bytes),
    });
    await standby.start();
    await primary.query('CREATE TABLE t AS SELECT generate_series(1, 1000) AS i');
    await standby.waitForReplay(await primary.walPosition());
    expect(await standby.value('SELECT count(*) FROM t')).toBe('1000');
    expect(progress.at(-1)).toBeGreaterThan(20e6);
    await standby.promote();
    expect(await standby.value('SELECT pg_is_in_recovery()')).toBe('f');
    await standby.stop('fast');
  });

  it('survives kill -9 of all its processes', async () => {
    await primary.query('CREATE TABLE kept AS SELECT 1 AS i');
    await primary.kill();
    expect(primary.isRunning).toBe(false);
    await primary.start();
    expect(await primary.value('SELECT i FROM kept')).toBe('1');
  });
});

describe('a workspace whose process dies', () => {
  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
    'by %s leaves neither a server nor a file behind',
    async (signal) => {
      const { child, directory, pid } = await startOwner();
      expect(isProcessAlive(pid)).toBe(true);
      child.kill(signal);
      await pollUntil('the directory gone', async () => ((await exists(directory)) ? null : true), {
        timeoutMs: 30_000,
      });
      expect(await isServerOf(pid)).toBe(false);
    },
  );

  it('is cleared away by the next one, and one that lives is left alone', async () => {
    await using alive = await openWorkspace(await serverUser());
    const dead = await mkdtemp(join(tmpdir(), 'walcast-run-'));
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    const owner = { pid: child.pid, hostname: hostname() };
    await writeFile(join(dead, 'owner.json'), JSON.stringify(owner));
    await removeStaleWorkspaces(tmpdir(), await serverUser());
    expect(await exists(dead)).toBe(false);
    expect(await exists(alive.directory)).toBe(true);
  });
});

/** A process of its own that starts a server and says where; it runs the compiled program. */
async function startOwner(): Promise<{ child: ChildProcess; directory: string; pid: number }> {
  const demo = new URL('../../dist/demo/', import.meta.url).href;
  const script = `
    const { openWorkspace } = await import('${demo}postgres-workspace.js');
    const { serverUser } = await import('${demo}postgres-user.js');
    const { createPrimary } = await import('${demo}postgres-cluster.js');
    const workspace = await openWorkspace(await serverUser());
    const primary = await createPrimary(workspace, { major: ${TEST_MAJORS[0]}, name: 'primary' });
    await primary.start();
    console.log(JSON.stringify({ directory: workspace.directory, pid: primary.process.pid }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { directory, pid } = JSON.parse(line.toString()) as { directory: string; pid: number };
  return { child, directory, pid };
}

/** Zombies that nobody buries do not count. */
async function isServerOf(pid: number): Promise<boolean> {
  return await exists(`/proc/${pid}/exe`);
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
