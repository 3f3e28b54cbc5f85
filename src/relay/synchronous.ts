// The synchronous side of one relay: whose confirmation counts, what is reported upstream for it, what people are told of it.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { INVALID_LSN, maxLsn, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReportedPositions } from '../status/status.ts';
import { NOTHING_OFFERED, positionsWithoutPolicy } from '../syncrep/reported-positions.ts';
import type { OwnEnds } from '../syncrep/reported-positions.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import { ASYNC, decideSync } from '../syncrep/sync-standbys.ts';
import type { SyncQuorum, SyncStandby } from '../syncrep/sync-standbys.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type { PositionSource, UpstreamIdentity } from '../walreceiver/ports.ts';
import { Acknowledgement } from './acknowledgement.ts';
import type { OwnPositions } from './acknowledgement.ts';
import { ApplyAlarm } from './apply-alarm.ts';
import type { CommitFacts } from './apply-alarm.ts';
import { ConfirmTimes } from './confirm-times.ts';
import { SlotDriftAlarm } from './slot-drift.ts';
import type { SyncPicture } from './sync-picture.ts';
import { SyncWatch } from './sync-watch.ts';
import { SYNC_NAMES_SETTING, UpstreamNames } from './upstream-names.ts';
import type { OwnName } from './upstream-names.ts';

/** The setting that bounds how far the upstream's slot may fall behind. */
export const SLOT_KEEP_SETTING = 'max_slot_wal_keep_size';

const LSN_MAX: Lsn = toLsn((1n << 64n) - 1n);

/** The store, as far as acknowledging needs it. */
export interface SynchronousStore extends OwnPositions {
  positions(): OwnEnds & { readonly receivedLsn: Lsn };
  /** End (exclusive) of the last whole record that was received; INVALID_LSN for an empty store. */
  recordEndLsn(): Lsn;
  facts(): CommitFacts;
  /** P, as it was stored. */
  reportedFlushLsn(): Lsn;
  /** Null for an empty store. */
  timelineOrNull(): TimelineId | null;
}

/** The same of the store itself. */
export function synchronousStoreOf(store: WalStore): SynchronousStore {
  return {
    positions: () => store.positions(),
    recordEndLsn: () => store.walk?.recordEnd() ?? INVALID_LSN,
    shutdownCheckpointLsn: () => store.shutdownCheckpointLsn(),
    noteReportedFlush: (lsn) => store.noteReportedFlush(lsn),
    facts: () => store.facts(),
    reportedFlushLsn: () => store.reportedFlushLsn(),
    timelineOrNull: () => (store.identity === null ? null : store.timeline()),
  };
}

/** What it is joined to. Functions are asked anew each time. */
export interface SynchronousParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly policy: () => SyncPolicy | null;
  /** All standbys that stream, live. */
  readonly standbys: () => Iterable<SyncStandby>;
  readonly applicationName: () => string;
  /** Our slot upstream; null for none. */
  readonly slot: () => string | null;
  /** Names of the members of the upstream's cluster, where they are known. */
  readonly memberNames: () => readonly string[];
  /** Something may be reported now that may not have been before. */
  readonly onMoved: () => void;
}

/** From the opening of the store to the end. */
export class Synchronous {
  readonly #parts: SynchronousParts;
  readonly #watch: SyncWatch;
  readonly #times = new ConfirmTimes();
  readonly #applyAlarm: ApplyAlarm;
  readonly #slotAlarm: SlotDriftAlarm;
  readonly #names: UpstreamNames;
  #store: SynchronousStore | null = null;
  #acknowledgement: Acknowledgement | null = null;
  #policyText = '';
  /** When the first WAL of this turn of the event loop came. */
  #arrivedAtMs: number | null = null;
  #isLookDue = false;
  #isScheduled = false;
  #isClosed = false;

  constructor(parts: SynchronousParts) {
    const { clock, log } = parts;
    this.#parts = parts;
    this.#watch = new SyncWatch(clock, log);
    this.#applyAlarm = new ApplyAlarm(log);
    this.#slotAlarm = new SlotDriftAlarm(clock, log);
    this.#names = new UpstreamNames(log);
  }

  /** The store is open. What it returns is asked for every report. */
  follow(store: SynchronousStore): PositionSource {
    const { clock, policy, standbys, onMoved } = this.#parts;
    this.#store = store;
    this.#policyText = policy()?.text ?? '';
    this.#acknowledgement = new Acknowledgement(store, {
      clock,
      policy,
      standbys,
      onMoved,
      onDecided: (quorum, current) => this.#onDecided(quorum, current),
      onReport: (positions, own) => this.#onReport(positions, own),
    });
    this.look();
    return this.#acknowledgement;
  }

  /** A START_REPLICATION on `timeline` is about to be sent to the server that said `identity` of itself. */
  startStream(
    timeline: TimelineId,
    identity: Pick<UpstreamIdentity, 'settings' | 'slotRestartLsn' | 'timeline' | 'xlogPos'>,
  ): void {
    const { clock } = this.#parts;
    const { settings, slotRestartLsn: slotLsn } = identity;
    const promisedLsn = this.#store?.reportedFlushLsn() ?? INVALID_LSN;
    const receivedLsn = this.#store?.positions().receivedLsn ?? INVALID_LSN;
    // On a timeline that the server has left nothing more is written.
    const isLive = identity.timeline === timeline;
    const beganAtLsn = isLive ? maxLsn(receivedLsn, identity.xlogPos) : LSN_MAX;
    this.#acknowledgement?.startStream(timeline, { beganAtLsn, promisedLsn });
    this.#times.forget();
    this.#slotAlarm.identified(settings.get(SLOT_KEEP_SETTING), { slotLsn, receivedLsn });
    this.#names.identified(settings.get(SYNC_NAMES_SETTING), clock.wallMs());
    this.#names.say(this.#ownName());
  }

  /** A message with WAL has come; what it brings is looked at once this turn is over. Called for each: cheap. */
  walComes(): void {
    if (this.#arrivedAtMs !== null) return;
    this.#arrivedAtMs = this.#parts.clock.nowMs();
    setImmediate(this.#noteArrival);
  }

  /** A standby, or its position, came, moved or went; as often as it happens. Looked at once this turn is over. */
  standbysMoved(): void {
    this.#isLookDue = true;
    this.#parts.onMoved();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      // A report looks too; where nobody is to be told anything, it is looked here.
      if (this.#isLookDue && !this.#isClosed) this.look();
    });
  }

  /** Another policy may be in effect. */
  policyChanged(): void {
    const text = this.#parts.policy()?.text ?? '';
    if (text === this.#policyText) return;
    this.#policyText = text;
    this.#applyAlarm.policyChanged();
    this.look();
    this.#names.say(this.#ownName());
    this.#parts.onMoved();
  }

  /** Looks at the standbys at once. */
  look(): void {
    this.#acknowledgement?.decide(this.#store?.timelineOrNull() ?? null);
  }

  /** See {@link Acknowledgement.withdraw}. */
  withdraw(): void {
    this.#watch.ending();
    this.#acknowledgement?.withdraw();
  }

  /** One sentence for people while commits wait for what nobody will do; else null. */
  get detail(): string | null {
    return this.#applyAlarm.detail;
  }

  /** Nothing is looked at or told any more. */
  close(): void {
    this.#isClosed = true;
    this.#acknowledgement?.close();
  }

  /** What is shown, of this moment. */
  picture(): SyncPicture {
    const store = this.#store;
    const policy = this.#parts.policy();
    // Nobody counts before the store is open, nor while it is empty.
    const timeline = store?.timelineOrNull() ?? null;
    const decision =
      timeline === null ? null : decideSync(policy, this.#parts.standbys(), timeline);
    const own = this.#ownName();
    const isOwn = policy === null && store !== null;
    const confirmed = isOwn ? positionsWithoutPolicy(store.positions()) : null;
    const alarms = [this.#applyAlarm.detail, this.#slotAlarm.detail];
    return {
      status: {
        synchronousStandbyNames: policy?.text ?? '',
        method: policy?.method ?? null,
        names: policy?.names.filter((name) => name !== '*') ?? [],
        requiredStandbys: policy?.required ?? 0,
        eligibleStandbys: decision?.eligible ?? 0,
        isSatisfied: decision?.isSatisfied ?? policy === null,
        confirmed: confirmed ?? decision?.positions ?? NOTHING_OFFERED,
        changes: this.#watch.changes,
        sinceMs: this.#watch.sinceMs,
        unsatisfiedSeconds: this.#watch.unsatisfiedSeconds,
        confirmDuration: this.#times.histogram(),
        upstream: this.#names.status(own),
        clash: this.#names.clash(own),
        alarms: alarms.filter((alarm) => alarm !== null),
      },
      stateOf: (pid) => decision?.stateOf(pid) ?? ASYNC,
    };
  }

  readonly #noteArrival = (): void => {
    // Half a record is confirmed with the rest of it, whenever that comes.
    const endLsn = this.#store?.recordEndLsn() ?? INVALID_LSN;
    if (this.#arrivedAtMs !== null) this.#times.received(endLsn, this.#arrivedAtMs);
    this.#arrivedAtMs = null;
  };

  #onDecided(quorum: SyncQuorum, policy: SyncPolicy | null): void {
    this.#isLookDue = false;
    this.#watch.look(quorum, policy);
    const store = this.#store;
    if (store !== null) this.#applyAlarm.look(() => store.facts(), { policy, quorum });
  }

  #onReport({ flushLsn }: ReportedPositions, { flushedLsn }: OwnEnds): void {
    const promisedLsn = this.#acknowledgement?.promisedLsn ?? INVALID_LSN;
    this.#slotAlarm.look({ slot: this.#parts.slot(), flushedLsn, promisedLsn });
    if (flushLsn !== INVALID_LSN) this.#times.confirmed(flushLsn, this.#parts.clock.nowMs());
  }

  #ownName(): OwnName {
    const { applicationName, policy, memberNames } = this.#parts;
    return {
      applicationName: applicationName(),
      hasPolicy: policy() !== null,
      memberNames: memberNames(),
    };
  }
}
