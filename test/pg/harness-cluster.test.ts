// Do the servers of the tests start, stop, crash, promote and go away as they should?
import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';

describe.each([13, 15, 18])('PostgreSQL %i', (major) => {
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
