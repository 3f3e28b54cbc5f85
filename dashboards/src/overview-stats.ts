// The fleet in figures: each one is good, or says where to look.
import { largestSlotShare, missingStandbys } from './fleet.ts';
import { FIRING } from './overview-tables.ts';
import type { PanelSpec } from './panel-spec.ts';
import { rate, scrapeTargets, walcast } from './selectors.ts';
import { atLeast, SATISFIED_WORDS, upTo } from './words.ts';

const MIB = 1024 * 1024;
const SENT = `sum(${rate('standby_sent_bytes_total')})`;
const RECEIVED = `sum(${rate('upstream_received_bytes_total')})`;
const FREE = walcast('store_filesystem_free_bytes');

/** The panels of the first row. */
export const STATS: readonly PanelSpec[] = [
  {
    kind: 'stat',
    title: 'Relays',
    description:
      'Walcasts that Prometheus reaches, those that would answer /readyz with 200, and how many there were within the last hour.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      { legend: 'up', expr: `sum(${scrapeTargets()})` },
      { legend: 'ready', expr: `sum(${walcast('ready')})` },
      { legend: 'known', expr: `count(${scrapeTargets()})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Upstream connections',
    description:
      'Connections to upstream servers that stream, that are catching up, and that are not there.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      { legend: 'streaming', expr: `sum(${walcast('upstream_state', 'state="streaming"')})` },
      { legend: 'catching up', expr: `sum(${walcast('upstream_state', 'state="catchup"')})` },
      {
        legend: 'away',
        expr: `sum(${walcast('upstream_state', 'state=~"disconnected|connecting|waiting_for_wal"')})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Standbys',
    description:
      'Sessions that stream, sessions that are catching up, and standbys that own a slot or are named in synchronous_standby_names and are connected ' +
      'to no relay of their cluster.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      {
        legend: 'streaming',
        expr: `sum(${walcast('standby_connections', 'state="streaming"')})`,
      },
      {
        legend: 'catching up',
        expr: `sum(${walcast('standby_connections', 'state="catchup"')})`,
      },
      {
        legend: 'missing',
        expr: missingStandbys(),
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Furthest behind',
    description:
      'The largest lag of any standby end to end, from the upstream’s end of WAL: bytes not flushed there, and bytes not replayed.',
    unit: 'bytes',
    width: 5,
    height: 4,
    noValue: 'no standby',
    thresholds: upTo(64 * MIB, 1024 * MIB),
    queries: [
      { legend: 'flush', expr: `max(${walcast('standby_lag_bytes', 'stage="flush"')})` },
      { legend: 'replay', expr: `max(${walcast('standby_lag_bytes', 'stage="replay"')})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Longest behind',
    description:
      'The same in seconds: how long the newest confirmation took, or the age of the oldest WAL not confirmed where that is more; 0 when idle.',
    unit: 's',
    width: 4,
    height: 4,
    noValue: 'no standby',
    thresholds: upTo(15, 300),
    queries: [
      { legend: 'flush', expr: `max(${walcast('standby_lag_seconds', 'stage="flush"')})` },
      { legend: 'replay', expr: `max(${walcast('standby_lag_seconds', 'stage="replay"')})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Synchronous policy',
    description:
      'Whether every relay has the standbys that its synchronous_standby_names requires. While one has not, commits that wait for it hang.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'no relay',
    words: SATISFIED_WORDS,
    queries: [{ legend: 'policy', expr: `min(${walcast('sync_satisfied')})` }],
  },
  {
    kind: 'stat',
    title: 'Fan-out factor',
    description:
      'Bytes of WAL sent to standbys for each byte received: what the upstream would have to send, and does not. Nothing is shown while no WAL is written.',
    unit: 'none',
    width: 5,
    height: 4,
    decimals: 1,
    noValue: 'idle',
    queries: [{ legend: 'sent / received', expr: `${SENT} / (${RECEIVED} > 0)` }],
  },
  {
    kind: 'stat',
    title: 'Largest share of a slot',
    description:
      'The slot that holds back most, as a share of what its relay may keep, on the relay that its standby uses. At 100 % it is lost. Nothing is shown ' +
      'without a limit or without slots.',
    unit: 'percentunit',
    width: 5,
    height: 4,
    max: 1,
    noValue: 'no limit',
    thresholds: upTo(0.5, 0.8),
    queries: [
      {
        legend: 'of the limit',
        expr: largestSlotShare(),
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Time to a full disk',
    description:
      'When the fullest file system under a WAL store has no room left, at the rate of the last six hours. Nothing is shown while none is filling up. ' +
      'A store with a limit stops growing there.',
    unit: 'dtdurations',
    width: 5,
    height: 4,
    noValue: 'not filling up',
    thresholds: atLeast(4 * 3600, 2 * 86400),
    queries: [
      {
        legend: 'until full',
        expr: `min(${FREE} / -(deriv(${FREE}[6h]) < 0))`,
        isEmptyWhenHealthy: true,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Firing alerts',
    description: 'Alerts of the rules of walcast that fire now. The table below names them.',
    unit: 'short',
    width: 4,
    height: 4,
    thresholds: upTo(1, 3),
    queries: [{ legend: 'firing', expr: `count(${FIRING}) or vector(0)` }],
  },
];
