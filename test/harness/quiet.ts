// While nothing is written everything that walcast shows is exactly what the primary and the standbys have: what is not?
import { readdir } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import { parseWalFileName, segmentStart } from '../../src/pg/segment.ts';
import { REPORT_AGE_MS } from './claims.ts';
import { seriesOf } from './exposition.ts';
import type { Look, Looker, RelayViews } from './looks.ts';
import { lsnOf, SEGMENT_SIZE, STANDBYS } from './values-rig.ts';
import type { ValuesRig } from './values-rig.ts';

/** What counters have come to at a moment at which nobody lacks anything. */
export interface QuietCounters {
  /** The primary's end of WAL. */
  readonly endBytes: number;
  /** Everything that counts bytes of WAL, by name. */
  readonly counters: ReadonlyMap<string, number>;
}

/** A report, a rendering of metrics and the second after which a lag of nothing is 0: no figure is older than that together. */
const SETTLED_MS = REPORT_AGE_MS + 1_000 + 1_000;

/** Commands of the console, and which answer of the API has the same; rows belong together by the column. */
const SHOWN = [
  ['SHOW STANDBYS', 'application_name', ({ status }: RelayViews) => status.standbys],
  ['SHOW SLOTS', 'slot_name', ({ slots }: RelayViews) => slots],
  ['SHOW UPSTREAM', 'host', ({ upstream }: RelayViews) => [upstream]],
  ['SHOW STORE', 'timeline', ({ store }: RelayViews) => [store]],
  ['SHOW SYNC', 'synchronous_standby_names', ({ status }: RelayViews) => [status.sync]],
] as const;

/** Of each of them. */
const COMMON_COLUMNS_MIN = 5;

/** Columns whose values mean another thing than the field of that name, or are written in another way. */
const OTHERS: ReadonlySet<string> = new Set([
  // Of the hop from walcast, as in pg_stat_replication.
  'write_lag',
  'flush_lag',
  'replay_lag',
  // Intervals, times and lists.
  'replayed_commit_age',
  'inactive_since',
  'reply_time',
  'since',
  'alarms',
  'discovery',
  'upstream',
  'tls',
]);

/**
 * Waits until the running standbys have replayed everything, and from then on a report's time at most until everything that
 * is shown of `names` and of the upstream is exactly what they have; gives that look.
 */
export async function exactFigures(
  rig: ValuesRig,
  looker: Looker,
  names: readonly string[] = STANDBYS,
): Promise<Look> {
  await rig.settled();
  return await untilExact(rig, looker, { names, timeoutMs: SETTLED_MS });
}

/**
 * Looks until everything that is shown of `names` and of the upstream is exactly what they have. Rejects with what is not when
 * `timeoutMs` have passed since the primary wrote last: now and then it writes something by itself.
 */
async function untilExact(
  rig: ValuesRig,
  looker: Looker,
  { names, timeoutMs }: { readonly names: readonly string[]; readonly timeoutMs: number },
): Promise<Look> {
  let endLsn = INVALID_LSN;
  let sinceMs = systemClock.nowMs();
  for (;;) {
    const look = await looker.look();
    const different = await differentRows(looker, look);
    const wrong = [
      ...inexact(look, names),
      ...(await wrongStore(rig, look)),
      ...differentEvents(look),
      ...different,
    ];
    const after = await rig.primary.walPosition();
    if (wrong.length === 0 && look.primary?.endLsn === after) return look;
    if (after !== endLsn) sinceMs = systemClock.nowMs();
    endLsn = after;
    if (systemClock.nowMs() > sinceMs + timeoutMs)
      throw new Error(`not exact ${timeoutMs} ms after the last write:\n${wrong.join('\n')}`);
  }
}

/** The counters of a look at which all was exact. */
export function quietCounters({ primary, views }: Look, names: readonly string[]): QuietCounters {
  if (primary === null || views === null) throw new Error('nobody answered');
  const { samples } = views.metrics;
  const metric = (name: string, labels = {}): [string, number] => {
    const series = seriesOf(name, labels);
    return [series, samples.get(series) ?? Number.NaN];
  };
  const sent = names.flatMap((name): [string, number][] => [
    metric('walcast_standby_sent_bytes_total', { standby: name }),
    [
      `sent_bytes of ${name}`,
      views.status.standbys.find((one) => one.application_name === name)?.sent_bytes ?? Number.NaN,
    ],
  ]);
  const counters = new Map([
    ['received_bytes', views.upstream.received_bytes],
    metric('walcast_upstream_received_bytes_total', { upstream: 'default' }),
    ...sent,
  ]);
  return { endBytes: Number(primary.endLsn), counters };
}

/** By how much each counter grew, for each byte of WAL that the primary wrote between two moments. */
export function growthPerByte(from: QuietCounters, to: QuietCounters): Record<string, number> {
  const written = to.endBytes - from.endBytes;
  return Object.fromEntries(
    [...to.counters].map(([name, value]) => [
      name,
      (value - (from.counters.get(name) ?? Number.NaN)) / written,
    ]),
  );
}

function inexact({ primary, standbys, views }: Look, names: readonly string[]): string[] {
  if (primary === null || views === null) return ['nobody answers'];
  const end = primary.endLsn;
  const wrong: string[] = [];
  const at = (what: string, text: string | null | undefined): void => {
    const position = text === null || text === undefined ? null : parseLsn(text);
    if (position !== end) wrong.push(`${what} is ${text}, not ${end.toString(16)}`);
  };
  const is = (what: string, value: unknown, expected: unknown): void => {
    if (value !== expected) wrong.push(`${what} is ${String(value)}, not ${String(expected)}`);
  };
  const metric = (name: string, labels: Readonly<Record<string, string>>): number | undefined =>
    views.metrics.samples.get(seriesOf(name, labels));
  upstreamExact(views, { at, is, metric, end });
  for (const [what, position] of Object.entries(primary.sender ?? {}))
    if (/^(sent|write|flush)Lsn$/.test(what)) is(`the primary's ${what}`, position, end);
  for (const name of names) {
    const said = standbys.get(name);
    is(`${name}'s own replay position`, said?.replayLsn, end);
    is(`${name}'s own flush position`, said?.receiver?.flushedLsn, end);
    standbyExact(views, name, { at, is, metric, end });
    const standby = views.status.standbys.find((one) => one.application_name === name);
    is(`${name}.timeline`, standby?.timeline, said?.receiver?.timeline);
    is(`${name}.slot_name`, standby?.slot_name, said?.receiver?.slot);
  }
  return wrong;
}

interface Judge {
  readonly at: (what: string, text: string | null | undefined) => void;
  readonly is: (what: string, value: unknown, expected: unknown) => void;
  readonly metric: (name: string, labels: Readonly<Record<string, string>>) => number | undefined;
  readonly end: bigint;
}

function upstreamExact(views: RelayViews, { at, is, metric, end }: Judge): void {
  const { upstream, status, store } = views;
  at('server_lsn', upstream.server_lsn);
  at('received_lsn', upstream.received_lsn);
  at('written_lsn', upstream.written_lsn);
  at('flushed_lsn', upstream.flushed_lsn);
  at('reported.write', upstream.reported.write);
  at('reported.flush', upstream.reported.flush);
  at('store.flushed_lsn', store.flushed_lsn);
  at('sync.confirmed.flush', status.sync.confirmed.flush);
  is('upstream.lag_bytes', upstream.lag_bytes, 0);
  const streaming = status.standbys.filter(({ state }) => state === 'streaming').length;
  is('connections', metric('walcast_standby_connections', { state: 'streaming' }), streaming);
  is('upstream.lag_seconds', upstream.lag_seconds, 0);
  const label = { upstream: 'default' };
  for (const name of ['server', 'received', 'flushed'])
    is(name, metric(`walcast_upstream_${name}_lsn_bytes`, label), Number(end));
  for (const stage of ['write', 'flush']) {
    const reported = metric('walcast_upstream_acknowledged_lsn_bytes', { ...label, stage });
    is(`acknowledged ${stage}`, reported, Number(end));
  }
  is('lag in metrics', metric('walcast_upstream_lag_bytes', label), 0);
  is('lag seconds in metrics', metric('walcast_upstream_lag_seconds', label), 0);
  const [row, ...others] = views.receiverRows;
  is('rows of pg_stat_wal_receiver', others.length, 0);
  for (const column of ['written_lsn', 'flushed_lsn', 'latest_end_lsn'])
    at(`pg_stat_wal_receiver.${column}`, row?.[column]);
  is('pg_stat_wal_receiver.status', row?.['status'], 'streaming');
  is('pg_stat_wal_receiver.slot_name', row?.['slot_name'], upstream.slot);
  is('pg_stat_wal_receiver.received_tli', row?.['received_tli'], String(upstream.timeline));
  is('pg_stat_wal_receiver.sender_port', row?.['sender_port'], String(upstream.port));
}

function standbyExact(views: RelayViews, name: string, { at, is, metric, end }: Judge): void {
  const standby = views.status.standbys.find((one) => one.application_name === name);
  const row = views.replication.find((one) => one['application_name'] === name);
  const slot = views.slots.find((one) => one.slot_name === name);
  const slotRow = views.slotRows.find((one) => one['slot_name'] === name);
  for (const stage of ['sent', 'write', 'flush', 'replay'] as const) {
    at(`${name}.${stage}_lsn`, standby?.[`${stage}_lsn`]);
    at(`${name}'s row, ${stage}_lsn`, row?.[`${stage}_lsn`]);
    const bytes = metric(`walcast_standby_${stage}_lsn_bytes`, { standby: name });
    is(`${name}'s ${stage}_lsn in metrics`, bytes, Number(end));
  }
  for (const stage of ['write', 'flush', 'replay'] as const) {
    is(`${name}.${stage}_lag`, standby?.[`${stage}_lag`], 0);
    is(`${name}.hop_${stage}_lag`, standby?.[`hop_${stage}_lag`], null);
    is(`${name}'s row, ${stage}_lag`, row?.[`${stage}_lag`], null);
    const labels = { standby: name, stage };
    is(`${name}'s ${stage} lag in metrics`, metric('walcast_standby_lag_seconds', labels), 0);
    is(`${name}'s ${stage} lag bytes`, metric('walcast_standby_lag_bytes', labels), 0);
  }
  is(`${name}.state`, standby?.state, 'streaming');
  is(`${name}.lag_bytes`, standby?.lag_bytes, 0);
  is(`${name}.hop_lag_bytes`, standby?.hop_lag_bytes, 0);
  for (const column of ['pid', 'client_port', 'state', 'sync_state', 'sync_priority'] as const)
    is(`${name}'s row, ${column}`, row?.[column], String(standby?.[column]));
  const priority = metric('walcast_standby_sync_priority', { standby: name });
  is(`${name}'s priority in metrics`, priority, standby?.sync_priority);
  at(`${name}'s slot, restart_lsn`, slot?.restart_lsn);
  at(`${name}'s slot row, restart_lsn`, slotRow?.['restart_lsn']);
  is(`${name}'s slot, retained_bytes`, slot?.retained_bytes, 0);
  is(
    `${name}'s slot, retained in metrics`,
    metric('walcast_slot_retained_bytes', { slot: name }),
    0,
  );
  is(`${name}'s slot, active`, slot?.active, true);
  is(`${name}'s slot, active_pid`, slot?.active_pid, standby?.pid);
  is(`${name}'s slot row, active_pid`, slotRow?.['active_pid'], String(standby?.pid));
  is(
    `${name}'s slot row, safe_wal_size`,
    slotRow?.['safe_wal_size'] ?? null,
    text(slot?.safe_wal_size),
  );
  is(`${name}'s slot row, wal_status`, slotRow?.['wal_status'], slot?.wal_status);
}

function text(value: number | null | undefined): string | null {
  return value === null || value === undefined ? null : String(value);
}

/** What commands of the console show otherwise than the API does. */
async function differentRows(looker: Looker, { views }: Look): Promise<string[]> {
  if (views === null) return [];
  const found: string[] = [];
  for (const [command, key, answer] of SHOWN) {
    const rows = await looker.console(command);
    const fields = answer(views).map((one) => new Map<string, unknown>(Object.entries(one)));
    if (rows.length !== fields.length) found.push(`${command} has ${rows.length} rows`);
    for (const row of rows) {
      const same = fields.find((one) => columnText(one.get(key)) === row[key]);
      const columns = Object.entries(row).filter(
        ([column]) => same?.has(column) === true && !OTHERS.has(column),
      );
      if (columns.length < COMMON_COLUMNS_MIN) found.push(`${command} has little of the API`);
      for (const [column, value] of columns) {
        const expected = columnText(same?.get(column));
        if (value !== expected)
          found.push(`${command} has ${column} ${value}, the API ${expected}`);
      }
    }
  }
  return found;
}

function columnText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'boolean') return value ? 't' : 'f';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Times that go on while all else stands still. */
const TICKING: ReadonlySet<string> = new Set(['reply_time', 'last_message_at', 'at']);

/** Where a listener to the events has another picture than the API. */
function differentEvents({ views }: Look): string[] {
  if (views === null) return [];
  const text = (value: unknown): string =>
    JSON.stringify(value, (key, part: unknown) => (TICKING.has(key) ? undefined : part));
  const { events, status, upstream, store, slots } = views;
  const routes = { status, upstream, store, slots, sync: status.sync };
  return Object.entries(routes)
    .filter(
      ([name, value]) => text(value) !== text(new Map(Object.entries(events ?? {})).get(name)),
    )
    .map(([name]) => `another ${name} in events`);
}

/** What the store says of its files, against the directory itself; a file that is prepared for WAL to come holds none. */
async function wrongStore({ relay }: ValuesRig, { views }: Look): Promise<string[]> {
  if (views === null) return [];
  const { store, metrics } = views;
  const endLsn = lsnOf(store.flushed_lsn) ?? INVALID_LSN;
  const segments = new Set(
    (await readdir(relay.walDirectory))
      .map((name) => parseWalFileName(name, SEGMENT_SIZE)?.segment)
      .filter((segment) => segment !== undefined)
      .filter((segment) => segmentStart(segment, SEGMENT_SIZE) < endLsn),
  );
  const oldest = [...segments].reduce((least, segment) => (segment < least ? segment : least));
  const of = (name: string): number | undefined =>
    metrics.samples.get(seriesOf(name, { upstream: 'default' }));
  const shown = [
    [store.segments, segments.size],
    [of('walcast_store_segments'), segments.size],
    [store.size_bytes, segments.size * SEGMENT_SIZE],
    [of('walcast_store_size_bytes'), segments.size * SEGMENT_SIZE + store.dead.bytes],
    [lsnOf(store.oldest_lsn), segmentStart(oldest, SEGMENT_SIZE)],
  ];
  return shown
    .filter(([is, expected]) => is !== expected)
    .map(([is, expected]) => `of the store ${is} is shown, ${expected} is there`);
}
