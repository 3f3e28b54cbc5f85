// How do the streaming standbys do, looked at together once a second: which has stalled, which share a name?
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { APPLICATION_NAMES_MAX, STANDBY_STALLED_MS, STANDBY_WATCH_MS } from '../config/limits.ts';
import { formatLsn } from '../pg/lsn.ts';
import { StandbyStall } from './standby-stall.ts';
import type { StreamProgress } from './wal-stream.ts';

/** How long nothing is confirmed before it is asked whether there is something to confirm. */
const ASK_AFTER_MS: number = STANDBY_STALLED_MS / 2;

/** A session that streams, as it is looked at. */
export interface WatchedStandby {
  readonly applicationName: string;
  readonly log: Log;
  /** Null while there is nothing to measure. */
  progress(): StreamProgress | null;
  /** Bytes that its socket has not taken. */
  pendingBytes(): number;
  /** When its stream began, and when it was heard last, monotonic. */
  readonly startedAtMs: number;
  readonly heardAtMs: number;
  /** Asks it to say where it is, unless it is asked already. */
  askForReply(): void;
  /** A receiver that replays, or has a slot: one that a name is meant to stand for. */
  isStandby(): boolean;
}

/** All that stream. */
export class StandbyWatch {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #watched = new Map<WatchedStandby, StandbyStall>();
  #sharedNames: ReadonlySet<string> = new Set();
  /** Names that were said to be shared: once each. */
  readonly #saidNames = new Set<string>();
  #timer: Timer | null = null;
  #stalls = 0;

  constructor(options: { clock: Clock; log: Log }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** How often a standby stalled since the start. */
  get stalls(): number {
    return this.#stalls;
  }

  /** Begins to look at a stream. */
  add(standby: WatchedStandby): void {
    const nowMs = this.#clock.nowMs();
    this.#watched.set(
      standby,
      new StandbyStall({ limitMs: STANDBY_STALLED_MS, tickMs: STANDBY_WATCH_MS, nowMs }),
    );
    this.#arm();
  }

  /** Its stream is over. */
  remove(standby: WatchedStandby): void {
    this.#watched.delete(standby);
    if (this.#watched.size > 0) return;
    this.#timer?.cancel();
    this.#timer = null;
    this.#sharedNames = new Set();
  }

  isStalled(standby: WatchedStandby | null): boolean {
    return standby !== null && this.#watched.get(standby)?.isStalled === true;
  }

  isNameShared(standby: WatchedStandby | null): boolean {
    if (standby === null || !standby.isStandby()) return false;
    return this.#watched.has(standby) && this.#sharedNames.has(standby.applicationName);
  }

  #arm(): void {
    this.#timer ??= this.#clock.setTimer(STANDBY_WATCH_MS, () => {
      this.#timer = null;
      this.#tick();
      if (this.#watched.size > 0) this.#arm();
    });
  }

  #tick(): void {
    const nowMs = this.#clock.nowMs();
    for (const [standby, watch] of this.#watched) this.#look(standby, watch, nowMs);
    this.#sharedNames = sharedNames(this.#watched.keys());
    for (const name of this.#sharedNames) this.#sayShared(name);
  }

  #look(standby: WatchedStandby, watch: StandbyStall, nowMs: number): void {
    const progress = standby.progress();
    if (progress === null) return;
    const silentMs = watch.withoutProgressMs;
    const change = watch.tick({ nowMs, ...progress });
    // Some report only when asked, as with wal_receiver_status_interval = 0.
    if (silentMs < ASK_AFTER_MS && watch.withoutProgressMs >= ASK_AFTER_MS) standby.askForReply();
    if (change === 'none') return;
    const fields = {
      confirmed_lsn: formatLsn(progress.confirmedLsn),
      sent_lsn: formatLsn(progress.sentLsn),
      end_lsn: formatLsn(progress.endLsn),
    };
    if (change === 'resumed') {
      standby.log.info('standby goes on after it had stalled', {
        ...fields,
        stalled_s: Math.round(silentMs / 1000),
      });
      return;
    }
    this.#stalls += 1;
    standby.log.warn(
      'standby has stalled: for a minute it has confirmed nothing more, although there is more WAL for it',
      { ...fields, detail: whereStuck(progress, standby.pendingBytes()) },
    );
  }

  #sayShared(name: string): void {
    if (this.#saidNames.has(name) || this.#saidNames.size >= APPLICATION_NAMES_MAX) return;
    this.#saidNames.add(name);
    this.#log.warn(
      'several standbys stream under one application_name; give each a name of its own in its primary_conninfo',
      { application_name: name },
    );
  }
}

function whereStuck({ sentLsn, endLsn }: StreamProgress, pendingBytes: number): string {
  if (pendingBytes > 0) return 'its connection does not take what is sent to it';
  return sentLsn < endLsn ? 'there is more to be read for it' : 'it was sent everything';
}

/**
 * Names of several standbys that are all alive: each was heard after the youngest of them began. An old connection whose
 * standby is back on a new one is not counted.
 */
function sharedNames(standbys: Iterable<WatchedStandby>): Set<string> {
  const groups = new Map<string, { startedAtMs: number; heardAtMs: number[] }>();
  for (const standby of standbys) {
    if (!standby.isStandby()) continue;
    const { startedAtMs, heardAtMs } = standby;
    const group = groups.get(standby.applicationName);
    if (group === undefined) {
      groups.set(standby.applicationName, { startedAtMs, heardAtMs: [heardAtMs] });
    } else {
      group.startedAtMs = Math.max(group.startedAtMs, startedAtMs);
      group.heardAtMs.push(heardAtMs);
    }
  }
  const shared = [...groups].filter(
    ([, { startedAtMs, heardAtMs }]) =>
      heardAtMs.filter((heardMs) => heardMs > startedAtMs).length > 1,
  );
  return new Set(shared.map(([name]) => name));
}
