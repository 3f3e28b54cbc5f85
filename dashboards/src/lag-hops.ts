// Where is the lag? The way of the WAL from the upstream to a standby's replay, in hops that add up to the lag end to end.
import type { QuerySpec } from './panel-spec.ts';
import { walcast } from './selectors.ts';

/** What the relay has not received yet, by relay; 0 where the upstream has not said yet how far it is. */
const NOT_RECEIVED =
  `(max by (job, instance) (clamp_min(${walcast('upstream_server_lsn_bytes')} - ` +
  `${walcast('upstream_received_lsn_bytes')}, 0)) or max by (job, instance) (${walcast('build_info')} * 0))`;

/**
 * Queries of the waterfall, bytes: upstream → relay, relay → send, send → write, write → flush, flush → replay, each `wrap`ped. A receiver that
 * never reports a position (pg_receivewal does not replay) has no such hop.
 *
 * @param matchers of the standbys looked at
 * @param wrap puts a hop's expression into an aggregation, which must keep nothing but what the legend names
 */
export function lagHops(
  matchers: readonly string[],
  wrap: (expr: string) => string,
): readonly QuerySpec[] {
  const lag = (stage: string): string =>
    walcast('standby_lag_bytes', `stage="${stage}"`, ...matchers);
  const between = (from: string, to: string): string =>
    `clamp_min(${lag(to)} - ignoring (stage) ${lag(from)}, 0)`;
  const upstream = `${lag('send')} * 0 + on (job, instance) group_left () ${NOT_RECEIVED}`;
  const relay = `clamp_min(${lag('send')} - on (job, instance) group_left () ${NOT_RECEIVED}, 0)`;
  return [
    { legend: 'upstream → relay', expr: wrap(upstream) },
    { legend: 'relay → send', expr: wrap(relay) },
    { legend: 'send → write', expr: wrap(between('send', 'write')) },
    { legend: 'write → flush', expr: wrap(between('write', 'flush')) },
    { legend: 'flush → replay', expr: wrap(between('flush', 'replay')) },
  ];
}
