// Which of a real primary and its standby is followed, by what target_session_attrs says, and what follows a promotion.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { TargetSessionAttrs } from '../../src/pg/conninfo.ts';
import { freePort } from '../harness/free-port.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { ReceiverRig } from '../support/receiver-rig.ts';
import { newestMajors } from '../support/requirements.ts';

describe.each(newestMajors())('a primary and a standby of PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let nobody: number;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
    standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: primary.target(),
    });
    await standby.start();
    nobody = await freePort();
  });

  afterAll(async () => {
    await workspace.close();
  });

  function nameOf(port: number | null): string {
    return port === primary.port ? 'primary' : port === standby.port ? 'standby' : `port ${port}`;
  }

  /** The server that is followed out of `ports`, or why none is. */
  async function followed(
    targetSessionAttrs: TargetSessionAttrs,
    ports: readonly number[],
  ): Promise<string> {
    const hosts = ports.map((port) => ({ host: '127.0.0.1', port }));
    await using rig = new ReceiverRig({
      hosts,
      user: 'postgres',
      targetSessionAttrs,
      decide: ({ timeline, xlogPos }, sink) => {
        sink.moveTo(xlogPos);
        return { kind: 'start', timeline, startLsn: xlogPos };
      },
    });
    rig.receiver.start();
    const status = () => rig.receiver.status();
    await rig.until(
      'a host is followed, or none',
      () => rig.receiver.followedHost() !== null || status().state === 'disconnected',
    );
    const { port, detail } = status();
    const isInRecovery = rig.identities.map((identity) => identity.isInRecovery);
    if (rig.receiver.followedHost() === null) return detail ?? '';
    expect(isInRecovery).toEqual([nameOf(port) === 'standby']);
    return nameOf(port);
  }

  it.each<[TargetSessionAttrs, primaryFirst: string, standbyFirst: string]>([
    ['any', 'primary', 'standby'],
    ['read-write', 'primary', 'primary'],
    ['read-only', 'standby', 'standby'],
    ['primary', 'primary', 'primary'],
    ['standby', 'standby', 'standby'],
    ['prefer-standby', 'standby', 'standby'],
  ])('%s follows the %s, or the %s when the standby comes first', async (wanted, one, other) => {
    expect(await followed(wanted, [primary.port, standby.port])).toBe(one);
    expect(await followed(wanted, [nobody, standby.port, primary.port])).toBe(other);
  });

  it('of the wrong kind are told in the words of libpq', async () => {
    const of = { primary: [nobody, primary.port], standby: [nobody, standby.port] } as const;
    expect(await followed('read-write', of.standby)).toContain(
      `:${standby.port}: session is read-only`,
    );
    expect(await followed('read-only', of.primary)).toContain(
      `:${primary.port}: session is not read-only`,
    );
    expect(await followed('primary', of.standby)).toContain(
      `:${standby.port}: server is in hot standby mode`,
    );
    const none = await followed('standby', of.primary);
    expect(none).toContain(`:${primary.port}: server is not in hot standby mode`);
    expect(none).toContain(`127.0.0.1:${nobody}: connection refused (ECONNREFUSED)`);
    expect(await followed('prefer-standby', of.primary)).toBe('primary');
  });

  it('are told apart also where sessions read only by default', async () => {
    const settings = { default_transaction_read_only: 'on' };
    for (const server of [primary, standby]) {
      await server.configure(settings);
      await server.reload();
    }
    const ports = [primary.port, standby.port];
    expect(await followed('read-write', ports)).toContain('session is read-only');
    expect(await followed('read-only', ports)).toBe('primary');
    expect(await followed('primary', ports.toReversed())).toBe('primary');
    expect(await followed('standby', ports)).toBe('standby');
    expect(await followed('prefer-standby', ports)).toBe('standby');
    for (const server of [primary, standby]) {
      await server.configure({ default_transaction_read_only: null });
      await server.reload();
    }
  });

  it('change places, and read-write follows to the one that was promoted', async () => {
    const conninfo =
      `host=127.0.0.1,127.0.0.1,127.0.0.1 port=${nobody},${standby.port},${primary.port} ` +
      'user=postgres sslmode=disable target_session_attrs=read-write';
    const relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: { upstream: { conninfo } },
    });
    await relay.start();
    const before = await relay.waitForStatus(
      'streaming from the primary',
      ({ upstream }) => upstream.state === 'streaming',
    );
    expect(nameOf(before.upstream.port)).toBe('primary');
    const standbySlots = 'SELECT count(*) FROM pg_replication_slots';
    expect(await standby.value(standbySlots)).toBe('0');
    await standby.waitForReplay(await primary.walPosition());
    await primary.kill();
    await relay.waitForStatus(
      'the standby is left out',
      ({ upstream }) =>
        upstream.detail?.includes(`:${standby.port}: session is read-only`) === true,
    );
    await standby.promote();
    const after = await relay.waitForStatus(
      'streaming on the new timeline',
      ({ upstream, timeline }) => timeline === 2 && upstream.state === 'streaming',
    );
    expect(nameOf(after.upstream.port)).toBe('standby');
    await relay.stop();
    const lines = relay.log.filter((line) => line.includes('is left out'));
    expect(lines.filter((line) => line.includes(`:${nobody}`))).not.toEqual([]);
    expect(lines.filter((line) => line.includes('session is read-only'))).not.toEqual([]);
  });
});
