// What is the state of the relay, for whoever reads the log and can ask nothing else? As GET /api/v1/status has it, a line a
// part, and bounded however many there are of everything.
import type { Clock } from '../base/clock.ts';
import type { Log, LogFields } from '../base/log.ts';
import type { LogLevelControl } from '../base/log-levels.ts';
import { STATE_DUMP_INTERVAL_MS, STATE_DUMP_LINES_MAX } from '../config/limits.ts';
import { slotsJson, statusJson } from '../http/status-json.ts';
import type { StatusSource } from '../status/status.ts';

/** What is dumped, and where to. */
export interface StateDumpParts {
  readonly source: StatusSource;
  /** Whose lines are written whatever the levels are. */
  readonly log: Log;
  readonly levels: LogLevelControl;
  readonly clock: Clock;
}

/** Writes the state down when it is asked to; not more often than once in a while. */
export class StateDump {
  readonly #parts: StateDumpParts;
  #nextMs = Number.NEGATIVE_INFINITY;
  #leftOut = 0;

  constructor(parts: StateDumpParts) {
    this.#parts = parts;
  }

  /** `cause`: who asked, for the first line. */
  write(cause: string): void {
    const { clock, log } = this.#parts;
    const nowMs = clock.nowMs();
    if (nowMs < this.#nextMs) {
      this.#leftOut += 1;
      return;
    }
    this.#nextMs = nowMs + STATE_DUMP_INTERVAL_MS;
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    for (const [message, fields] of this.#lines()) log.info(`state: ${message}`, fields);
    log.info(`${cause}: the state is written down above`, leftOut > 0 ? { left_out: leftOut } : {});
  }

  #lines(): (readonly [string, LogFields])[] {
    const { source, clock, levels } = this.#parts;
    const status = source.status();
    const { standbys, findings, upstream, store, sync, feedback, access, ...relay } = statusJson(
      status,
      clock.wallMs(),
    );
    const { rss, heapUsed, external } = process.memoryUsage();
    const memory = { rss_bytes: rss, heap_used_bytes: heapUsed, external_bytes: external };
    const set = levels
      .list()
      .filter(({ origin }) => origin === 'runtime')
      .map(({ component, level }) => ({ set_component: component, set_level: level }));
    return [
      ['relay', flat({ ...relay, ...memory })],
      ...some('finding', findings),
      ['upstream', flat(upstream)],
      ['store', flat(store)],
      ['sync', flat(sync)],
      ['feedback', flat(feedback)],
      ['access', flat(access)],
      ...some('standby', standbys),
      ...some('slot', slotsJson(status)),
      ...some('log level set at run time', set),
    ];
  }
}

/** One line each, and one for those that are too many. */
function some(what: string, items: readonly object[]): (readonly [string, LogFields])[] {
  const shown = items.slice(0, STATE_DUMP_LINES_MAX);
  const lines = shown.map((item) => [what, flat(item)] as const);
  const more = items.length - shown.length;
  return more === 0 ? lines : [...lines, [`${what}: more than are shown`, { more }] as const];
}

/** Fields of objects inside are named after both; of lists only their length is told. */
function flat(item: object, prefix = ''): LogFields {
  const fields: Record<string, string | number | boolean | null> = {};
  for (const [key, value] of Object.entries(item) as [string, unknown][]) {
    const name = `${prefix}${key}`;
    if (Array.isArray(value)) fields[name] = value.length;
    else if (typeof value === 'object' && value !== null)
      Object.assign(fields, flat(value, `${name}_`));
    else if (typeof value === 'bigint') fields[name] = String(value);
    else if (isScalar(value)) fields[name] = value;
  }
  return fields;
}

function isScalar(value: unknown): value is string | number | boolean | null {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value);
}
