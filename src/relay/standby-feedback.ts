// Hot standby feedback of all standbys together: takes what each of them says, keeps it with its session or its slot, and
// answers what is to be said upstream of all of it. The rules are those of syncrep/feedback.ts.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { FEEDBACK_GRACE_MS, FEEDBACK_NOTE_MS } from '../config/limits.ts';
import { isSameXmins, NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';
import type { FeedbackStatus, StandbyFeedbackStatus } from '../status/status.ts';
import {
  horizonOf,
  isDeeper,
  isTooOld,
  isUrgent,
  readFeedback,
  xminAge,
} from '../syncrep/feedback.ts';
import type { Contribution, Horizon, HorizonRules, WireXmins } from '../syncrep/feedback.ts';
import type { FeedbackSource, UpstreamFeedback } from '../walreceiver/ports.ts';
import type { FeedbackSink, StandbyFeedback } from '../walsender/ports.ts';

/** The slots' part. */
export interface FeedingSlots {
  feedBack(name: string, said: Xmins): void;
  held(): Iterable<Contribution>;
  saved(): Promise<void>;
}

/** What is noted over a restart. */
export interface NotedFeedback {
  /** What an earlier process said last. */
  load(): Promise<Xmins>;
  readonly saved: Xmins;
  save(xmins: Xmins): Promise<void>;
  close(): Promise<void>;
}

/** What the configuration says. */
export interface FeedbackSettings {
  /** `upstream.hot_standby_feedback` */
  readonly isOn: boolean;
  /** `max_feedback_xmin_age`; null = no bound. */
  readonly maxXminAge: bigint | null;
}

/** Where it all comes from. */
export interface StandbyFeedbackParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: () => FeedbackSettings;
  /** The next full transaction id as the WAL tells it; null while it does not. */
  readonly nextXid: () => bigint | null;
  /** Null before they are loaded: until then nothing is said. */
  readonly slots: () => FeedingSlots | null;
  readonly note: NotedFeedback;
  /** What is to be said may have appeared, got older or gone. Called per message at most. */
  readonly onChanged: () => void;
}

/** How those are named who were there before a restart, and are not back. */
const BEFORE_RESTART = '(before the restart)';

/** All who feed back to one relay. */
export class StandbyFeedbackBook implements FeedbackSink, FeedbackSource {
  readonly #parts: StandbyFeedbackParts;
  readonly #sessions = new Set<FeedingSession>();
  readonly #ignored: Record<'future' | 'past', number> = { future: 0, past: 0 };
  /** Of the last look. */
  #horizon: Horizon | null = null;
  #tooOld: ReadonlySet<string> = new Set();
  #sent: { readonly xmins: Xmins; readonly atMs: number } | null = null;
  /** What an earlier process said last counts until then; null before the first stream. */
  #graceUntilMs: number | null = null;
  #carried: Xmins | null = null;
  #isFrozen = false;
  #noting: Promise<void> | null = null;
  #notedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: StandbyFeedbackParts) {
    this.#parts = parts;
  }

  /** Reads what an earlier process said last. Until then nothing may be asked. */
  async load(): Promise<void> {
    this.#carried = await this.#parts.note.load();
  }

  /** Standbys leave because of us from now on: what was said last stays said. */
  freeze(): void {
    this.#isFrozen = true;
  }

  /** The configuration, or what slots hold, may have changed. */
  changed(): void {
    this.#parts.onChanged();
  }

  // --- for walsenders

  open(standby: { readonly pid: number; readonly applicationName: string }): StandbyFeedback {
    const session = new FeedingSession(this, standby);
    this.#sessions.add(session);
    return session;
  }

  /** A message of that session. */
  take(session: FeedingSession, message: WireXmins): void {
    session.pending = message;
    this.#settle(session, this.#parts.nextXid());
    // Waits until the WAL has told the next transaction id.
    if (session.pending !== null) this.#parts.onChanged();
  }

  /** The session begins a stream with `slot`. */
  begin(session: FeedingSession, slot: string | null): void {
    if (slot !== null) session.own = NO_XMINS;
    session.slot = slot;
  }

  /** The session is over. */
  leave(session: FeedingSession): void {
    if (!this.#sessions.delete(session)) return;
    if (!isSameXmins(session.own, NO_XMINS)) this.#parts.onChanged();
  }

  /** What one session's feedback comes to. */
  statusOf({ said, pending, isVoid }: FeedingSession): StandbyFeedbackStatus | null {
    const nextXid = this.#parts.nextXid();
    if (said === null && pending === null && !isVoid) return null;
    const { xmin, catalogXmin } = said ?? NO_XMINS;
    const age = said === null || nextXid === null ? null : xminAge(said, nextXid);
    const rules = { nextXid: nextXid ?? 0n, maxAge: this.#parts.settings().maxXminAge };
    const isOld = [xmin, catalogXmin].some((xid) => xid !== null && isTooOld(xid, rules));
    const held = xmin === null && catalogXmin === null ? 'none' : isOld ? 'too_old' : 'counted';
    const state = pending !== null ? 'unknown' : isVoid ? 'invalid' : held;
    return { xmin, catalogXmin, state, xminAge: age };
  }

  // --- for the walreceiver

  feedback(): UpstreamFeedback | null {
    const slots = this.#parts.slots();
    const nextXid = this.#parts.nextXid();
    if (!this.#parts.settings().isOn) return { ...NO_XMINS, nextXid };
    if (this.#isFrozen) return this.#sent === null ? null : { ...this.#sent.xmins, nextXid };
    if (slots === null || nextXid === null) return null;
    for (const session of this.#sessions) this.#settle(session, nextXid);
    const horizon = this.#look(slots, nextXid);
    const { xmin, catalogXmin } = horizon;
    const isEmpty = xmin === null && catalogXmin === null;
    if (isEmpty && this.#isInGrace()) return null;
    if (!this.#isNoted(horizon, slots)) return null;
    return { xmin, catalogXmin, nextXid };
  }

  onSent(xmins: Xmins): void {
    const { clock, note } = this.#parts;
    this.#sent = { xmins, atMs: clock.wallMs() };
    // A crash before that finds an older one, which holds more.
    const isDue = clock.nowMs() >= this.#notedAtMs + FEEDBACK_NOTE_MS;
    if (isSameXmins(note.saved, xmins) || this.#noting !== null || !isDue) return;
    this.#notedAtMs = clock.nowMs();
    void note.save(xmins);
  }

  /** What was sent last is on the disk when it resolves; nothing is written afterwards. */
  async close(): Promise<void> {
    if (this.#sent !== null) await this.#parts.note.save(this.#sent.xmins);
    await this.#parts.note.close();
  }

  /** The same when the disk has failed: nothing is noted on it any more. */
  abandon(): void {
    void this.#parts.note.close();
  }

  /** The status of this moment. */
  status(): FeedbackStatus {
    const { settings, nextXid } = this.#parts;
    return {
      isOn: settings().isOn,
      xmin: this.#sent?.xmins.xmin ?? null,
      catalogXmin: this.#sent?.xmins.catalogXmin ?? null,
      sentAtMs: this.#sent?.atMs ?? null,
      nextXid: nextXid(),
      heldBy: this.#horizon?.heldBy ?? null,
      ignored: { ...this.#ignored },
      leftOut: this.#tooOld.size,
    };
  }

  #settle(session: FeedingSession, nextXid: bigint | null): void {
    if (session.pending === null) return;
    const reading = readFeedback(session.pending, nextXid);
    if (reading === null) return;
    session.pending = null;
    if (reading.kind === 'void') this.#ignore(session, reading.reason);
    else this.#accept(session, reading.xmins);
  }

  #accept(session: FeedingSession, xmins: Xmins): void {
    const before = session.said ?? NO_XMINS;
    session.isVoid = false;
    session.said = xmins;
    if (session.slot === null) session.own = xmins;
    else this.#parts.slots()?.feedBack(session.slot, xmins);
    // One that moves forward can wait until the next interval; so nobody is compared with a thousand others per message.
    const isGone = isUrgent(before, xmins) && !isDeeper(before, xmins);
    if (isGone || isDeeper(this.#horizon ?? NO_XMINS, xmins)) this.#parts.onChanged();
  }

  #ignore(session: FeedingSession, reason: 'future' | 'past'): void {
    this.#ignored[reason] += 1;
    if (session.isVoid) return;
    session.isVoid = true;
    const { pid, applicationName } = session.standby;
    this.#parts.log.warn(
      `hot standby feedback names a transaction id ${reason === 'future' ? 'in the future' : 'too far in the past'}: it is ignored, what was said before counts`,
      { pid, application_name: applicationName, slot: session.slot },
    );
  }

  #look(slots: FeedingSlots, nextXid: bigint): Horizon {
    const rules = { nextXid, maxAge: this.#parts.settings().maxXminAge };
    const horizon = horizonOf(this.#contributions(slots), rules);
    this.#horizon = horizon;
    this.#noteTooOld(horizon.tooOld, rules);
    return horizon;
  }

  *#contributions(slots: FeedingSlots): Generator<Contribution> {
    for (const { own, standby } of this.#sessions) {
      if (own.xmin === null && own.catalogXmin === null) continue;
      yield { name: standby.applicationName, xmin: own.xmin, catalogXmin: own.catalogXmin };
    }
    yield* slots.held();
    if (this.#carried !== null && this.#isInGrace()) {
      yield { name: BEFORE_RESTART, ...this.#carried };
    }
  }

  /** Begins with the first stream, for standbys come back no sooner. */
  #isInGrace(): boolean {
    const nowMs = this.#parts.clock.nowMs();
    this.#graceUntilMs ??= nowMs + FEEDBACK_GRACE_MS;
    return nowMs < this.#graceUntilMs;
  }

  #noteTooOld(names: readonly string[], { maxAge }: HorizonRules): void {
    const now = new Set(names);
    const { log } = this.#parts;
    const fields = { max_feedback_xmin_age: maxAge === null ? null : Number(maxAge) };
    for (const name of now) {
      if (this.#tooOld.has(name)) continue;
      log.warn(
        'what a standby or slot holds is too old and left out of the feedback: rows that its queries need may be removed',
        { name, ...fields },
      );
    }
    for (const name of this.#tooOld) {
      if (!now.has(name)) log.info('a standby or slot counts in the feedback again', { name });
    }
    this.#tooOld = now;
  }

  /** False while more is to be said than a crash would leave known; then it is saved first, slots before the note. */
  #isNoted(horizon: Xmins, slots: FeedingSlots): boolean {
    const { note, clock, onChanged } = this.#parts;
    if (this.#noting !== null) return false;
    if (!isDeeper(note.saved, horizon) || this.#hasFailedToNote(horizon)) return true;
    const { xmin, catalogXmin } = horizon;
    this.#notedAtMs = clock.nowMs();
    this.#noting = slots
      .saved()
      .then(() => note.save({ xmin, catalogXmin }))
      .then(() => {
        this.#noting = null;
        this.#unnoted = isDeeper(note.saved, horizon) ? { xmin, catalogXmin } : null;
        onChanged();
      });
    return false;
  }

  /** What the disk would not take is said all the same: protection now is worth more than after a crash. */
  #unnoted: Xmins | null = null;

  #hasFailedToNote(horizon: Xmins): boolean {
    return this.#unnoted !== null && !isDeeper(this.#unnoted, horizon);
  }
}

/** One session that feeds back, or may. */
export class FeedingSession implements StandbyFeedback {
  readonly #book: StandbyFeedbackBook;
  readonly standby: { readonly pid: number; readonly applicationName: string };
  slot: string | null = null;
  /** What the session itself holds; nothing while it uses a slot. */
  own: Xmins = NO_XMINS;
  /** As it was taken last; null before. */
  said: Xmins | null = null;
  /** Came before the next transaction id was known. */
  pending: WireXmins | null = null;
  /** The last message was ignored. */
  isVoid = false;

  constructor(
    book: StandbyFeedbackBook,
    standby: { readonly pid: number; readonly applicationName: string },
  ) {
    this.#book = book;
    this.standby = standby;
  }

  begin(slot: string | null): void {
    this.#book.begin(this, slot);
  }

  take(message: WireXmins): void {
    this.#book.take(this, message);
  }

  status(): StandbyFeedbackStatus | null {
    return this.#book.statusOf(this);
  }

  close(): void {
    this.#book.leave(this);
  }
}
