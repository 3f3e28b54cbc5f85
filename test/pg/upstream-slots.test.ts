// Our slot on real servers: held by a session that hangs, left behind, and dropped there only when it is ours and idle.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { dial } from '../../src/net/dial.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { dropLeftSlot } from '../../src/walreceiver/slot-errand.ts';
import type { ErrandOutcome } from '../../src/walreceiver/slot-errand.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { lsn } from '../support/receiver-rig.ts';
import { spannedMajors, itWhen } from '../support/requirements.ts';
import { targetFor } from '../support/upstream-target.ts';

const MAJORS = spannedMajors();

describe.each(MAJORS)('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
  });

  afterAll(async () => {
    await workspace.close();
  });

  /** The errand to a slot that walcast is said to have made, with a durable end of `flushed`. */
  async function drop(slot: string, flushed: string, system?: string): Promise<ErrandOutcome> {
    const host = { host: '127.0.0.1', address: '127.0.0.1', port: primary.port, password: null };
    const ofServer = 'SELECT system_identifier FROM pg_control_system()';
    return await dropLeftSlot(
      {
        target: targetFor('sslmode=disable', { hosts: [host], user: 'postgres' }),
        host,
        applicationName: 'walcast',
        receiverTimeoutMs: 60_000,
        clock: systemClock,
        log: silentLog,
        dial,
        signal: new AbortController().signal,
      },
      {
        host,
        slot,
        isOurs: true,
        systemIdentifier: system ?? (await primary.value(ofServer)),
        releasedLsn: null,
      },
      {
        flushedLsn: lsn(flushed),
        present: { address: null, port: 1, slot, heardAtMs: 0 },
      },
    );
  }

  function slots(): Promise<string> {
    return primary.value(
      "SELECT coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots",
    );
  }

  it('lets go of an idle slot, and only for the right cluster', async () => {
    await primary.query("SELECT pg_create_physical_replication_slot('idle', true)");
    expect(await drop('idle', 'FF/0', '1')).toMatchObject({ kind: 'taken' });
    expect(await slots()).toBe('idle');
    if (versionFacts(major).hasReadReplicationSlot) {
      expect(await drop('idle', '0/1000000')).toMatchObject({ kind: 'taken' });
      expect(await slots()).toBe('idle');
    }
    expect(await drop('idle', 'FF/0')).toEqual({ kind: 'dropped' });
    expect(await slots()).toBe('');
    expect(await drop('idle', 'FF/0')).toEqual({ kind: 'dropped' });
  });

  itWhen(major === MAJORS.at(-1))(
    'keeps a slot that is in use, also by a session that hangs, and that one is waited for',
    async () => {
      const relay = await createRelay(workspace, {
        name: 'walcast',
        upstream: () => primary.target(),
        settings: { upstream: { wal_receiver_timeout: '1s' } },
      });
      await relay.start();
      await relay.waitForStatus('a stream', ({ state }) => state === 'streaming');
      const holder = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'walcast'";
      const pid = Number(await primary.value(holder));
      expect(await drop('walcast', 'FF/0')).toMatchObject({ kind: 'in-use' });
      process.kill(pid, 'SIGSTOP');
      try {
        const { detail } = await relay.waitForStatus(
          'the slot is held by our own last session',
          ({ upstream }) => upstream.detail?.includes('55006') === true,
        );
        expect(detail).toContain('our own last session');
      } finally {
        process.kill(pid, 'SIGCONT');
      }
      await relay.waitForStatus(
        'a stream',
        ({ state, detail }) => state === 'streaming' && detail === null,
      );
      const upstream = (await relay.get('/api/v1/upstream')) as {
        connects: { success: number };
        disconnects: { timeout: number };
        left_slots: unknown[];
      };
      expect(upstream).toMatchObject({ disconnects: { timeout: 1 }, left_slots: [] });
      expect(upstream.connects.success).toBeLessThan(20);
      expect(relay.problems()).toEqual([]);
      await relay.stop();
    },
  );
});
