// What is seen, on the primary and by Patroni, of the keys of the session with the upstream?
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import { memberAt, openPatroniApi } from '../harness/patroni-api.ts';
import { i32, i64, message } from '../support/naive-writer.ts';
import { query, RawClient } from '../support/raw-client.ts';
import type { UpstreamDetailJson } from '../../src/http/api-types.ts';
import type { Effect, Effects } from './reload-effect.ts';
import type { Keys, ReloadRig } from './reload-rig.ts';

/** A column of walcast's line in pg_stat_replication. */
function ofWalsender(column: string): Effect['observe'] {
  return (rig) => rig.primary.query(`SELECT ${column} FROM pg_stat_replication`);
}

async function roles(rig: ReloadRig): Promise<Keys> {
  for (const role of ['repl_a', 'repl_b']) {
    const isThere = `SELECT count(*) FROM pg_roles WHERE rolname = '${role}'`;
    if ((await rig.primary.value(isThere)) === '0') {
      await rig.primary.query(`CREATE ROLE ${role} LOGIN REPLICATION`);
    }
  }
  await rig.put('conninfo-a', rig.conninfo('repl_a'));
  await rig.put('conninfo-b', rig.conninfo('repl_b'));
  return {};
}

/** Two that name the primary, and a standby where nobody is. */
async function patroni(rig: ReloadRig): Promise<Keys> {
  const urls: string[] = [];
  for (const _ of [0, 1]) {
    const api = await openPatroniApi();
    rig.workspace.onClose(() => api[Symbol.asyncDispose]());
    api.members = [
      memberAt('alpha', rig.primary.port, { role: 'leader', tags: { zone: 'a' } }),
      memberAt('beta', 1, { tags: { zone: 'b' } }),
    ];
    urls.push(api.url);
  }
  const [first = '', second = ''] = urls;
  return { first, second };
}

async function discovery(rig: ReloadRig): Promise<UpstreamDetailJson['discovery']> {
  return (await rig.get<UpstreamDetailJson>('/api/v1/upstream')).discovery;
}

async function ranks(rig: ReloadRig): Promise<unknown> {
  const members = (await discovery(rig))?.members ?? [];
  return members.map(({ name, rank }) => `${name} ${rank}`);
}

/** A standby that holds a row back; nothing of what it is sent is read. */
async function holdingStandby(rig: ReloadRig): Promise<void> {
  const xid = Number(await rig.primary.value('SELECT txid_current()'));
  await burnXids(rig, 20);
  await rig.primary.query('CHECKPOINT');
  const { client } = await RawClient.standby(rig.ports.pg, { user: 'postgres' });
  rig.clients.push(client);
  client.send(query(`START_REPLICATION ${(await rig.status()).store.flushed_lsn}`));
  await client.until('W');
  client.send(message('d', 'h', i64(0n), i32(xid), i32(0), i32(0), i32(0)));
}

async function burnXids(rig: ReloadRig, count: number): Promise<void> {
  await rig.primary.query(
    `DO $$ BEGIN FOR i IN 1..${count} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$`,
  );
}

async function isHeldBack(rig: ReloadRig): Promise<unknown> {
  return await rig.primary.query(
    "SELECT xmin IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'walcast'",
  );
}

/** Stops the walsender until walcast has given its connection up. */
async function silence(rig: ReloadRig): Promise<string> {
  const pid = Number(await rig.primary.value('SELECT pid FROM pg_stat_replication'));
  const { timeout: before } = (await rig.get<UpstreamDetailJson>('/api/v1/upstream')).disconnects;
  process.kill(pid, 'SIGSTOP');
  try {
    const look = async (): Promise<boolean> => {
      const { disconnects } = await rig.get<UpstreamDetailJson>('/api/v1/upstream');
      return disconnects.timeout > before;
    };
    return (await rig.see('it is given up', look, true)) === true ? 'given up' : 'kept';
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** Reports that came within a while in which nothing was written. */
async function reports(rig: ReloadRig): Promise<unknown> {
  const times = new Set<string>();
  const look = async (): Promise<boolean> => {
    times.add(await rig.primary.value('SELECT max(reply_time) FROM pg_stat_replication'));
    return times.size > 3;
  };
  const startMs = performance.now();
  const isOften = await rig.see('reports', look, true);
  return isOften === true && performance.now() - startMs < 9_000 ? 'often' : 'seldom';
}

export const UPSTREAM_EFFECTS: Effects = {
  'upstream.conninfo': {
    prepare: roles,
    after: (rig) => ({ upstream: { conninfo: rig.conninfo('repl_b') } }),
    observe: ofWalsender('usename'),
    old: [['postgres']],
    now: [['repl_b']],
  },
  'upstream.conninfo_file': {
    prepare: roles,
    before: { upstream: { conninfo: null, conninfo_file: 'conninfo-a' } },
    after: { upstream: { conninfo_file: 'conninfo-b' } },
    observe: ofWalsender('usename'),
    old: [['repl_a']],
    now: [['repl_b']],
  },
  'upstream.slot': {
    after: { upstream: { slot: 'another' } },
    observe: (rig) => rig.primary.query('SELECT slot_name FROM pg_replication_slots WHERE active'),
    old: [['walcast']],
    now: [['another']],
  },
  'upstream.application_name': {
    after: { upstream: { application_name: 'another' } },
    observe: ofWalsender('application_name'),
    old: [['walcast']],
    now: [['another']],
  },
  'upstream.discovery.patroni': {
    prepare: patroni,
    before: (_rig, { first }) => ({ upstream: { discovery: { patroni: [String(first)] } } }),
    after: (_rig, { second }) => ({ upstream: { discovery: { patroni: [String(second)] } } }),
    observe: async (rig) => (await discovery(rig))?.last_answer_from ?? null,
    old: (_rig, { first }) => String(first),
    now: (_rig, { second }) => String(second),
  },
  'upstream.prefer': {
    prepare: patroni,
    before: (_rig, { first }) => ({ upstream: { discovery: { patroni: [String(first)] } } }),
    after: { upstream: { prefer: 'standby' } },
    observe: ranks,
    old: ['alpha preferred', 'beta other'],
    now: ['beta preferred', 'alpha other'],
  },
  'upstream.zone': {
    prepare: patroni,
    before: (_rig, { first }) => ({
      upstream: { discovery: { patroni: [String(first)] }, prefer: 'zone', zone: 'a' },
    }),
    after: { upstream: { zone: 'b' } },
    observe: ranks,
    old: ['alpha preferred', 'beta other'],
    now: ['beta preferred', 'alpha other'],
  },
  'upstream.wal_receiver_timeout': {
    after: { upstream: { wal_receiver_timeout: '500ms' } },
    observe: silence,
    now: 'given up',
  },
  'upstream.wal_receiver_status_interval': {
    after: { upstream: { wal_receiver_status_interval: '1s' } },
    observe: reports,
    now: 'often',
  },
  'upstream.hot_standby_feedback': {
    prepare: holdingStandby,
    after: { upstream: { hot_standby_feedback: 'off' } },
    observe: isHeldBack,
    old: [['t']],
    now: [['f']],
  },
  max_feedback_xmin_age: {
    prepare: holdingStandby,
    after: { max_feedback_xmin_age: 10 },
    observe: isHeldBack,
    old: [['t']],
    now: [['f']],
  },
  synchronous_standby_names: {
    prepare: (rig) => rig.switchSegments(1),
    after: { synchronous_standby_names: 'ANY 1 (nobody)' },
    observe: async (rig) => {
      const { reported } = (await rig.status()).upstream;
      const isOffered = (parseLsn(reported.flush ?? '') ?? INVALID_LSN) !== INVALID_LSN;
      const [[isSeen] = []] = await rig.primary.query(
        'SELECT flush_lsn IS NOT NULL FROM pg_stat_replication',
      );
      return [isOffered, isSeen];
    },
    old: [true, 't'],
    now: [false, 'f'],
  },
};
