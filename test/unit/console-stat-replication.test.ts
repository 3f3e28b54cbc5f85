// Does a row of the console's pg_stat_replication say what the status says of the standby?
import { expect, it } from 'vitest';
import { STAT_REPLICATION } from '../../src/console/stat-replication.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import type { StandbyStatus } from '../../src/status/status.ts';
import { paperSession } from '../support/console-session.ts';
import { sampleConsole } from '../support/console-source.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

/** The row of one standby, by the names of the columns. */
function row(standby: Partial<StandbyStatus>, major = 18): Record<string, string | null> {
  const status = sampleStatus({ standbys: [sampleStandby(standby)] });
  const [first] = STAT_REPLICATION.rows({
    inside: sampleConsole(() => status),
    facts: versionFacts(major),
  });
  return Object.fromEntries(
    STAT_REPLICATION.columns.map(({ name }, index) => [name, first?.(index)?.text ?? null]),
  );
}

it('has what a standby counts for in our own policy, and the lag of this hop', () => {
  expect(row({ syncState: 'quorum', syncPriority: 1 })).toEqual({
    pid: '42',
    usesysid: null,
    usename: 'replicator',
    application_name: 'standby_a',
    client_addr: '10.0.0.7',
    client_hostname: null,
    client_port: '40000',
    backend_start: '2023-11-14 22:14:10+00',
    backend_xmin: null,
    state: 'streaming',
    sent_lsn: '0/3000060',
    write_lsn: '0/3000060',
    flush_lsn: '0/3000000',
    replay_lsn: '0/2FFF000',
    write_lag: '00:00:00.0004',
    flush_lag: '00:00:00.002',
    replay_lag: '00:00:01.5',
    sync_priority: '1',
    sync_state: 'quorum',
    reply_time: '2023-11-14 22:15:00+00',
  });
});

it('has NULL for what was never said, and for lag where there is nothing to measure', () => {
  const nothing = {
    clientAddr: null,
    clientPort: null,
    sentLsn: INVALID_LSN,
    writeLsn: INVALID_LSN,
    flushLsn: INVALID_LSN,
    applyLsn: INVALID_LSN,
    writeLagSeconds: null,
    flushLagSeconds: null,
    applyLagSeconds: null,
    replyTimeMs: null,
  };
  const shown = Object.entries(row(nothing)).filter(([, text]) => text !== null);
  expect(Object.fromEntries(shown)).toEqual({
    pid: '42',
    usename: 'replicator',
    application_name: 'standby_a',
    // As PostgreSQL shows a Unix socket.
    client_port: '-1',
    backend_start: '2023-11-14 22:14:10+00',
    state: 'streaming',
    sync_priority: '0',
    sync_state: 'async',
  });
});

it('has the xmin of a standby whose slot does not have it, without its epoch', () => {
  const feedback = {
    xmin: (3n << 32n) + 777n,
    catalogXmin: null,
    state: 'counted' as const,
    xminAge: 5,
  };
  expect(row({ feedback, slotName: null })['backend_xmin']).toBe('777');
  expect(row({ feedback })['backend_xmin']).toBeNull();
  // A session without a slot has one id for both, and none where it holds only the catalogue back.
  const both = { ...feedback, catalogXmin: (3n << 32n) + 700n };
  expect(row({ feedback: both, slotName: null })['backend_xmin']).toBe('700');
  const catalog = { ...both, xmin: null };
  expect(row({ feedback: catalog, slotName: null })['backend_xmin']).toBeNull();
});

it('writes positions as the server of its major does', () => {
  expect(row({}, 18)['replay_lsn']).toBe('0/2FFF000');
  expect(row({}, 19)['replay_lsn']).toBe('0/02FFF000');
});

it('is sorted by address as PostgreSQL sorts them: all of IPv4 before those of IPv6', () => {
  const addresses = ['2001:db8::7', '192.0.2.7', '::1', null, '10.0.0.7'];
  const standbys = addresses.map((clientAddr, pid) => sampleStandby({ pid, clientAddr }));
  const session = paperSession(sampleConsole(() => sampleStatus({ standbys })));
  const { rows } = session.ask('SELECT client_addr FROM pg_stat_replication ORDER BY 1');
  const wanted = ['10.0.0.7', '192.0.2.7', '::1', '2001:db8::7', undefined];
  expect(rows.map(([address]) => address?.toString())).toEqual(wanted);
});
