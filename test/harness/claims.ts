// Is what walcast says true? Positions only grow. So what it says of somebody at a moment lies between what that one said of
// itself a status interval before, and what it says right after: no tolerance but the age that a report may have.
import type { Lsn } from '../../src/pg/lsn.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import type { Exposition } from './exposition.ts';
import { seriesOf } from './exposition.ts';
import { standbyIn } from './looks.ts';
import type { Look, PrimaryWitness, RelayViews, StandbyWitness } from './looks.ts';
import { Testimony } from './testimony.ts';
import { STANDBYS, STATUS_INTERVAL_MS } from './values-rig.ts';

/** One figure that walcast shows, and between what it has to be; null: nobody knows. */
export interface Claim {
  /** Which figure, of whom, where. */
  readonly what: string;
  /** Null: walcast does not say, which is untrue where others know it. */
  readonly value: number | null;
  readonly least: number | null;
  readonly most: number | null;
  readonly atMs: number;
}

/** What is known besides the looks. */
export interface ClaimOptions {
  /** From when on a standby could not report any more, Unix milliseconds. */
  readonly silentSinceMs?: ReadonlyMap<string, number>;
  /** When a standby was killed, Unix milliseconds: it has no WAL from later. */
  readonly goneAtMs?: ReadonlyMap<string, number>;
}

/** How old a report may be: the interval, and what a machine that is busy with several files may lose. */
export const REPORT_AGE_MS: number = STATUS_INTERVAL_MS + 1_500;

/** A rendering of /metrics is used this long. */
const METRICS_AGE_MS = 1_000;

/** Something that changed is told after a second at most, and on a busy machine a moment later. */
const EVENT_AGE_MS = 1_500;

/** What making one may take. */
const RENDERING_MS = 300;

/** Lags begin when word of the WAL came: on a busy machine this much later or earlier than it was looked for. */
const LAG_SLACK_SECONDS = 1;

/** From the moment before which a standby is to be stopped until it certainly is. */
const PAUSE_TO_STOP_MS = 500;

/** Everything that walcast said in these looks, with its bounds. The last look is a witness only. */
export function claimsOf(looks: readonly Look[], options: ClaimOptions = {}): Claim[] {
  const testimony = new Testimony(looks);
  return looks.flatMap((look, index) => {
    const { views } = look;
    if (views === null) return [];
    const parts = { testimony, look, views, options };
    // Who is not connected is not known, and a rendering of metrics may be from when it was not.
    const recent = looks
      .slice(0, index + 1)
      .filter(({ answeredMs }) => answeredMs > look.askedMs - METRICS_AGE_MS - RENDERING_MS);
    const isConnected = recent.every((each) => each.views?.upstream.state === 'streaming');
    const upstream = upstreamClaims(parts).filter(({ value }) => value !== null || isConnected);
    const standbys = STANDBYS.flatMap((name) => {
      const { pid } = standbyIn(views, name) ?? {};
      const isThere = recent.every((each) => {
        const then = each.views === null ? null : standbyIn(each.views, name);
        return then?.state === 'streaming' && then.pid === pid;
      });
      return standbyClaims(parts, name).filter(({ value }) => value !== null || isThere);
    });
    return [...upstream, ...standbys];
  });
}

/** Those that are not true, as sentences. */
export function untrue(claims: readonly Claim[]): string[] {
  return claims
    .filter(({ value, least, most }) =>
      value === null
        ? least !== null && most !== null
        : (least !== null && value < least) || (most !== null && value > most),
    )
    .map(
      ({ what, value, least, most, atMs }) =>
        `${new Date(atMs).toISOString()} ${what} is ${value}, at least ${least}, at most ${most}`,
    );
}

/** How many claims about a figure could be judged from both sides. */
export function judged(claims: readonly Claim[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { what, least, most } of claims) {
    counts[what] = (counts[what] ?? 0) + (least === null || most === null ? 0 : 1);
  }
  return counts;
}

interface Parts {
  readonly testimony: Testimony;
  readonly look: Look;
  readonly views: RelayViews;
  readonly options: ClaimOptions;
}

/** Gives the bounds of a value that only grows, seen through a report. */
interface Bounds {
  readonly least: number | null;
  readonly most: number | null;
}

function upstreamClaims({ testimony, look, views }: Parts): Claim[] {
  const { upstream, metrics, receiverRows, store } = views;
  const { askedMs, answeredMs } = look;
  const end = ({ primary }: Look): number | null => asNumber(primary?.endLsn ?? null);
  const sender =
    (stage: (of: NonNullable<PrimaryWitness['sender']>) => Lsn | null) =>
    ({ primary }: Look): number | null =>
      asNumber(primary === null || primary.sender === null ? null : stage(primary.sender));
  const most = testimony.after(answeredMs, end);
  // What the primary has been told was so when it was told.
  const told = (stage: 'writeLsn' | 'flushLsn', ageMs: number): number | null =>
    testimony.before(
      askedMs - ageMs,
      sender((row) => row[stage]),
    );
  // What is reported arrives there in time.
  const arrives = (stage: 'writeLsn' | 'flushLsn'): number | null =>
    testimony.after(
      answeredMs + REPORT_AGE_MS,
      sender((row) => row[stage]),
    );
  const row = receiverRows[0];
  const label = { upstream: 'default' };
  const claim = claimsAt(answeredMs);
  const metric = (name: string, labels = {}): number | null =>
    sampleOf(metrics, name, { ...label, ...labels });
  // Nothing is offered while too few standbys confirm, and before the first report of a connection.
  const reported = (stage: 'write' | 'flush', bounds: Bounds): readonly Claim[] => {
    const value = lsn(upstream.reported[stage]);
    return value === null ? [] : claim(`upstream reported.${stage} in JSON`, value, bounds);
  };
  const serverEnd = testimony.before(askedMs - REPORT_AGE_MS, end);
  const staleEnd = testimony.before(askedMs - REPORT_AGE_MS - METRICS_AGE_MS, end);
  return [
    claim('upstream server_lsn in JSON', lsn(upstream.server_lsn), { least: serverEnd, most }),
    claim('upstream server_lsn in metrics', metric('walcast_upstream_server_lsn_bytes'), {
      least: staleEnd,
      most,
    }),
    claim('upstream latest_end_lsn in console', lsn(row?.['latest_end_lsn']), {
      least: serverEnd,
      most,
    }),
    claim('upstream written_lsn in JSON', lsn(upstream.written_lsn), {
      least: told('writeLsn', 0),
      most,
    }),
    claim('upstream flushed_lsn in JSON', lsn(upstream.flushed_lsn), {
      least: told('flushLsn', 0),
      most,
    }),
    claim('store flushed_lsn in JSON', lsn(store.flushed_lsn), {
      least: told('flushLsn', 0),
      most,
    }),
    claim('upstream flushed_lsn in metrics', metric('walcast_upstream_flushed_lsn_bytes'), {
      least: told('flushLsn', METRICS_AGE_MS),
      most,
    }),
    claim('upstream flushed_lsn in console', lsn(row?.['flushed_lsn']), {
      least: told('flushLsn', 0),
      most,
    }),
    claim('upstream written_lsn in console', lsn(row?.['written_lsn']), {
      least: told('writeLsn', 0),
      most,
    }),
    reported('write', { least: told('writeLsn', 0), most: arrives('writeLsn') }),
    reported('flush', { least: told('flushLsn', 0), most: arrives('flushLsn') }),
    claim('upstream lag_bytes in JSON', upstream.lag_bytes, {
      least: 0,
      most: distance(told('flushLsn', 0), most),
    }),
  ].flat();
}

function standbyClaims(parts: Parts, name: string): Claim[] {
  const { testimony, look, views } = parts;
  const standby = views.status.standbys.find((one) => one.application_name === name);
  const row = views.replication.find((one) => one['application_name'] === name);
  const { answeredMs } = look;
  const claim = claimsAt(answeredMs);
  const inEvents = views.events?.status.standbys.find((one) => one.application_name === name);
  const figures = boundsFor(parts, name);
  const metric = (family: string, labels = {}): number | null =>
    sampleOf(views.metrics, family, { standby: name, ...labels });
  const stages = ['sent', 'write', 'flush', 'replay'] as const;
  const positions = stages.flatMap((stage) => [
    ...claim(`${name} ${stage}_lsn in JSON`, lsn(standby?.[`${stage}_lsn`]), figures(stage, 0)),
    ...claim(`${name} ${stage}_lsn in console`, lsn(row?.[`${stage}_lsn`]), figures(stage, 0)),
    // Events come once a second.
    ...(inEvents === undefined
      ? []
      : claim(
          `${name} ${stage}_lsn in events`,
          lsn(inEvents[`${stage}_lsn`]),
          figures(stage, EVENT_AGE_MS),
        )),
    ...claim(
      `${name} ${stage}_lsn in metrics`,
      metric(`walcast_standby_${stage}_lsn_bytes`),
      figures(stage, METRICS_AGE_MS),
    ),
  ]);
  const end = ({ primary }: Look): number | null => asNumber(primary?.endLsn ?? null);
  const lagBounds = (stage: 'flush' | 'replay', ageMs: number): Bounds => {
    const { least, most } = figures(stage, ageMs);
    const behind = testimony.before(look.askedMs - REPORT_AGE_MS - ageMs, end);
    return {
      least: most === null || behind === null ? null : Math.max(0, behind - most),
      most: distance(least, testimony.after(answeredMs, end)),
    };
  };
  // What is held here, which may be less than there is: walcast has at least what it said it has.
  const retained = (ageMs: number): Bounds => {
    const { most: confirmed } = figures('flush', ageMs);
    const held = testimony.before(look.askedMs - ageMs, ({ primary }) =>
      asNumber(primary?.sender?.flushLsn ?? null),
    );
    const { most } = lagBounds('flush', ageMs);
    return { least: held === null || confirmed === null ? null : held - confirmed, most };
  };
  return [
    ...positions,
    ...claim(`${name} lag_bytes in JSON`, standby?.lag_bytes ?? null, lagBounds('replay', 0)),
    ...(['flush', 'replay'] as const).flatMap((stage) =>
      claim(
        `${name} lag_bytes of ${stage} in metrics`,
        metric('walcast_standby_lag_bytes', { stage }),
        lagBounds(stage, METRICS_AGE_MS),
      ),
    ),
    ...sumClaims(parts, name),
    ...secondsClaims(parts, name),
    ...commitClaims(parts, name),
    ...replyClaims(parts, name),
    ...slotClaims(parts, name, { figures, retained }),
  ];
}

/** What one answer says in two ways is the same: each is one picture of one instant. */
function sumClaims({ look, views }: Parts, name: string): readonly Claim[] {
  const { upstream } = views.status;
  const claim = claimsAt(look.answeredMs);
  const exactly = (value: number | null): Bounds => ({ least: value, most: value });
  const standby = standbyIn(views, name);
  const end = Math.max(lsn(upstream.server_lsn) ?? 0, lsn(upstream.received_lsn) ?? 0);
  const ofUpstream = (of: string): number =>
    sampleOf(views.metrics, `walcast_upstream_${of}_lsn_bytes`, { upstream: 'default' }) ?? 0;
  const endInMetrics = Math.max(ofUpstream('server'), ofUpstream('received'));
  const metric = (family: string, labels: Readonly<Record<string, string>>): number | null =>
    sampleOf(views.metrics, family, labels);
  const replay = lsn(standby?.replay_lsn);
  const inJson =
    replay === null
      ? []
      : claim(
          `${name} lag_bytes beside its replay_lsn`,
          standby?.lag_bytes ?? null,
          exactly(Math.max(0, end - replay)),
        );
  const inMetrics = (['write', 'flush', 'replay'] as const).flatMap((stage) => {
    const position = metric(`walcast_standby_${stage}_lsn_bytes`, { standby: name });
    if (position === null) return [];
    const lag = metric('walcast_standby_lag_bytes', { standby: name, stage });
    const bounds = exactly(Math.max(0, endInMetrics - position));
    return claim(`${name} lag_bytes beside its ${stage} position in metrics`, lag, bounds);
  });
  const restart = metric('walcast_slot_restart_lsn_bytes', { slot: name });
  const retained = claim(
    `${name} retained_bytes beside its restart_lsn in metrics`,
    metric('walcast_slot_retained_bytes', { slot: name }),
    exactly(restart === null ? null : Math.max(0, ofUpstream('received') - restart)),
  );
  return [...inJson, ...inMetrics, ...retained];
}

type Stage = 'sent' | 'write' | 'flush' | 'replay';

/** Between what a standby's position is, at each stage, in an answer that may be `ageMs` old. */
function boundsFor(
  { testimony, look, options }: Parts,
  name: string,
): (stage: Stage, ageMs: number) => Bounds {
  const { askedMs, answeredMs } = look;
  const silentMs = awayMs(options, name);
  const sinceMs = testimony.receiverSinceMs(name, askedMs);
  const of =
    (select: (said: StandbyWitness) => Lsn | null) =>
    ({ standbys }: Look): number | null => {
      const said = standbys.get(name);
      return said === undefined ? null : asNumber(select(said));
    };
  const select = {
    sent: of(({ receiver }) => receiver?.writtenLsn ?? null),
    write: of(({ receiver }) => receiver?.writtenLsn ?? null),
    flush: of(({ receiver }) => receiver?.flushedLsn ?? null),
    replay: of(({ replayLsn }) => replayLsn),
  };
  const end = ({ primary }: Look): number | null => asNumber(primary?.endLsn ?? null);
  const goneMs = options.goneAtMs?.get(name) ?? null;
  // A stream begins again at the start of a segment, what was there before is there still.
  const atMost = (stage: Stage): number | null =>
    testimony.highestAfter(answeredMs, stage === 'sent' ? end : select[stage]) ??
    (goneMs === null ? null : testimony.after(goneMs, end));
  return (stage, ageMs) => {
    // What it has written had been sent; the other positions come with its next report.
    const reportMs = stage === 'sent' ? ageMs : ageMs + REPORT_AGE_MS;
    const fromMs = Math.min(askedMs, silentMs) - reportMs;
    // Before that it was another session, which is sent again what it has from the beginning of a segment on.
    const isSettled = sinceMs !== null && fromMs >= sinceMs + (stage === 'sent' ? 2_000 : 0);
    return {
      least: isSettled ? testimony.before(fromMs, select[stage]) : null,
      most: atMost(stage),
    };
  };
}

/** The age of the oldest WAL that a standby has not confirmed replaying, by the primary's and its own figures. */
function secondsClaims({ testimony, look, views }: Parts, name: string): readonly Claim[] {
  const standby = views.status.standbys.find((one) => one.application_name === name);
  const replay = lsn(standby?.replay_lsn);
  if (standby === undefined || replay === null) return [];
  const claim = claimsAt(look.answeredMs);
  const passed = testimony.after(0, ({ primary, witnessUntilMs }) =>
    primary !== null && Number(primary.endLsn) > replay ? witnessUntilMs : null,
  );
  const reached = testimony.before(look.askedMs, ({ primary, witnessFromMs }) =>
    primary !== null && Number(primary.endLsn) < replay ? witnessFromMs : null,
  );
  // What was there before walcast began is as old as that, and what it missed as old as its coming to it.
  const startedMs = Math.max(
    Date.parse(views.status.started_at),
    testimony.streamingSinceMs(look) ?? 0,
  );
  const least =
    passed === null || passed > look.askedMs
      ? 0
      : Math.max(0, (look.askedMs - Math.max(passed, startedMs)) / 1_000 - LAG_SLACK_SECONDS);
  const most = reached === null ? null : (look.answeredMs - reached) / 1_000 + LAG_SLACK_SECONDS;
  return claim(`${name} replay_lag in JSON`, standby.replay_lag, { least, most });
}

/** How long ago the last transaction was committed that a standby has replayed, by its own word. */
function commitClaims({ look, views, testimony, options }: Parts, name: string): readonly Claim[] {
  const age = standbyIn(views, name)?.replayed_commit_age ?? null;
  if (age === null) return [];
  const committedMs = ({ standbys }: Look): number | null =>
    standbys.get(name)?.replayedCommitMs ?? null;
  const fromMs = Math.min(look.askedMs, awayMs(options, name)) - REPORT_AGE_MS;
  const [before, after] = [
    testimony.before(fromMs, committedMs),
    testimony.after(look.answeredMs, committedMs),
  ];
  const seconds = (fromTo: number): number => fromTo / 1_000;
  return claimsAt(look.answeredMs)(`${name} replayed_commit_age in JSON`, age, {
    // It is 0 for one that has replayed all there are.
    least: 0,
    most:
      before === null || after === null
        ? null
        : seconds(look.answeredMs - before) + LAG_SLACK_SECONDS,
  });
}

/** From when on it could not report any more; Infinity for one that can. */
function awayMs({ silentSinceMs, goneAtMs }: ClaimOptions, name: string): number {
  return Math.min(silentSinceMs?.get(name) ?? Infinity, goneAtMs?.get(name) ?? Infinity);
}

/** When a standby replied last, by its own clock. */
function replyClaims({ look, views, testimony, options }: Parts, name: string): readonly Claim[] {
  const standby = views.status.standbys.find((one) => one.application_name === name);
  const text = standby?.reply_time ?? null;
  if (text === null) return [];
  const silentMs = awayMs(options, name);
  const sinceMs = testimony.receiverSinceMs(name, look.askedMs);
  const least = Math.min(look.askedMs, silentMs) - REPORT_AGE_MS;
  return claimsAt(look.answeredMs)(`${name} reply_time in JSON`, Date.parse(text), {
    least: sinceMs === null || least < sinceMs ? null : least,
    // Rounded to a millisecond.
    most: Math.min(look.answeredMs, silentMs + PAUSE_TO_STOP_MS) + 1,
  });
}

function slotClaims(
  { views, look }: Parts,
  name: string,
  bounds: {
    readonly figures: (stage: Stage, ageMs: number) => Bounds;
    readonly retained: (ageMs: number) => Bounds;
  },
): Claim[] {
  const slot = views.slots.find((one) => one.slot_name === name);
  const row = views.slotRows.find((one) => one['slot_name'] === name);
  const claim = claimsAt(look.answeredMs);
  const metric = (family: string): number | null => sampleOf(views.metrics, family, { slot: name });
  return [
    ...claim(`${name} restart_lsn in JSON`, lsn(slot?.restart_lsn), bounds.figures('flush', 0)),
    ...claim(
      `${name} restart_lsn in console`,
      lsn(row?.['restart_lsn']),
      bounds.figures('flush', 0),
    ),
    ...claim(
      `${name} restart_lsn in metrics`,
      metric('walcast_slot_restart_lsn_bytes'),
      bounds.figures('flush', METRICS_AGE_MS),
    ),
    ...claim(`${name} retained_bytes in JSON`, slot?.retained_bytes ?? null, bounds.retained(0)),
    ...claim(
      `${name} retained_bytes in metrics`,
      metric('walcast_slot_retained_bytes'),
      bounds.retained(METRICS_AGE_MS),
    ),
  ];
}

/** A claim of that moment. */
function claimsAt(
  atMs: number,
): (what: string, value: number | null, bounds: Bounds) => readonly Claim[] {
  return (what, value, { least, most }) => [{ what, value, least, most, atMs }];
}

function sampleOf(
  { samples }: Exposition,
  name: string,
  labels: Readonly<Record<string, string>>,
): number | null {
  return samples.get(seriesOf(name, labels)) ?? null;
}

function lsn(text: string | null | undefined): number | null {
  return text === null || text === undefined ? null : asNumber(parseLsn(text));
}

function asNumber(position: Lsn | null): number | null {
  return position === null ? null : Number(position);
}

function distance(from: number | null, to: number | null): number | null {
  return from === null || to === null ? null : Math.max(0, to - from);
}
