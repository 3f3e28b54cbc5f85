// Hot standby feedback of all standbys together: takes what each of them says, keeps it with its session or its slot, and
// answers what is to be said upstream of all of it. The rules are those of syncrep/feedback.ts.
import type { Clock } from '../base/clock.ts';
import { LogBudget } from '../base/log-budget.ts';
import type { Log, LogFields } from '../base/log.ts';
import { Wakeup } from '../base/wakeup.ts';
import {
  FEEDBACK_NAMES_MAX,
  FEEDBACK_NOTE_MS,
  FEEDBACK_SENT_MS_MIN,
  OTHERS_LOG_LINES,
} from '../config/limits.ts';
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
import { CarriedFeedback } from './feedback-carried.ts';
import { isSame } from './feedback-note.ts';
import type { FeedbackNoted } from './feedback-note.ts';

/** The slots' part. */
export interface FeedingSlots {
  feedBack(name: string, said: Xmins, nextXid: bigint | null): void;
  /** A temporary one is not there after a restart. */
  held(): Iterable<Contribution & { readonly isTemporary: boolean }>;
  saved(): Promise<void>;
}

/** What is noted over a restart. */
export interface NotedFeedback {
  load(): Promise<FeedbackNoted>;
  readonly saved: FeedbackNoted;
  /** What was to be saved last. */
  readonly wanted: FeedbackNoted;
  save(noted: FeedbackNoted): Promise<void>;
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

/** NAMEDATALEN - 1: as much of a name as is kept and shown. */
const NAME_LENGTH_MAX = 63;

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
  /** What an earlier process said last, until those who needed it are back. */
  #carried: CarriedFeedback | null = null;
  #isFrozen = false;
  /** Who held something when it was frozen. */
  #namesAtEnd: readonly string[] | null = null;
  #noting: Promise<void> | null = null;
  #notingSinceMs = Number.NEGATIVE_INFINITY;
  /** What the disk would not take. */
  #unnoted: Xmins = NO_XMINS;
  #notedAtMs = Number.NEGATIVE_INFINITY;
  /** Asks for another look: something could not be noted yet. */
  readonly #again: Wakeup;
  /** A standby whose ids are good and bad by turns could fill a disk with lines. */
  readonly #lines = new LogBudget(OTHERS_LOG_LINES);

  constructor(parts: StandbyFeedbackParts) {
    this.#parts = parts;
    this.#again = new Wakeup(parts.clock, () => parts.onChanged());
  }

  /** Reads what an earlier process said last. Until then nothing may be asked. */
  async load(): Promise<void> {
    this.#carried = new CarriedFeedback(await this.#parts.note.load(), this.#parts.clock);
  }

  /** Standbys leave because of us from now on: what was said last stays said. */
  freeze(): void {
    if (this.#isFrozen) return;
    this.#namesAtEnd = this.#names();
    this.#isFrozen = true;
  }

  /** The configuration, or what slots hold, may have changed. */
  changed(): void {
    this.#parts.onChanged();
  }

  // --- for walsenders

  open(standby: { readonly pid: number; readonly applicationName: string }): StandbyFeedback {
    const applicationName = standby.applicationName.slice(0, NAME_LENGTH_MAX);
    const session = new FeedingSession(this, { pid: standby.pid, applicationName });
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
    session.slot = slot;
  }

  /** The session is over. */
  leave(session: FeedingSession): void {
    if (!this.#sessions.delete(session)) return;
    if (session.isBack) this.#carried?.wentAgain(session.standby.applicationName);
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
    if (this.#carried?.isOver() === true) this.#carried = null;
    const horizon = this.#look(slots, nextXid);
    const { xmin, catalogXmin } = horizon;
    const isEmpty = xmin === null && catalogXmin === null;
    if (isEmpty && this.#carried !== null) return null;
    if (!this.#isNoted(horizon, slots)) return null;
    return { xmin, catalogXmin, nextXid };
  }

  onSent(xmins: Xmins): void {
    const { clock, note, settings } = this.#parts;
    const { isOn } = settings();
    if (!isOn) this.#carried = null;
    this.#sent = { xmins, atMs: clock.wallMs() };
    const isSoon = clock.nowMs() < this.#notedAtMs + FEEDBACK_NOTE_MS;
    // A crash before that finds an older one, which holds more. That it is off is said once only.
    if (this.#noting !== null || (isOn && isSoon)) return;
    if (!isSameXmins(note.saved.xmins, xmins)) void this.#note({ xmins, standbys: this.#names() });
  }

  /** What was sent last, and who held something when it was frozen, is on the disk when it resolves; nothing is written afterwards. */
  async close(): Promise<void> {
    const { note } = this.#parts;
    this.#again.cancel();
    const standbys = this.#isFrozen ? this.#namesAtEnd : note.saved.standbys;
    if (this.#sent !== null) await note.save({ xmins: this.#sent.xmins, standbys });
    await note.close();
  }

  /** The same when the disk has failed: nothing is noted on it any more. */
  abandon(): void {
    this.#again.cancel();
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
    else this.#accept(session, reading.xmins, nextXid);
  }

  #accept(session: FeedingSession, xmins: Xmins, nextXid: bigint | null): void {
    const before = session.said ?? NO_XMINS;
    session.isVoid = false;
    const isNew = session.said === null;
    session.said = xmins;
    if (isNew) session.isBack = this.#carried?.cameBack(session.standby.applicationName) === true;
    session.own = session.slot === null ? xmins : NO_XMINS;
    if (session.slot !== null) this.#parts.slots()?.feedBack(session.slot, xmins, nextXid);
    // One that moves forward can wait until the next interval; so nobody is compared with a thousand others per message.
    const isGone = isUrgent(before, xmins) && !isDeeper(before, xmins);
    if (isNew || isGone || isDeeper(this.#horizon ?? NO_XMINS, xmins)) this.#parts.onChanged();
  }

  #ignore(session: FeedingSession, reason: 'future' | 'past'): void {
    this.#ignored[reason] += 1;
    if (session.isVoid) return;
    session.isVoid = true;
    const { pid, applicationName } = session.standby;
    this.#say(
      'warn',
      `hot standby feedback names a transaction id ${reason === 'future' ? 'in the future' : 'too far in the past'}: it is ignored, what was said before counts`,
      { pid, application_name: applicationName, slot: session.slot },
    );
  }

  #say(level: 'info' | 'warn', text: string, fields: LogFields): void {
    const { clock, log } = this.#parts;
    const leftOut = this.#lines.take(clock.nowMs());
    if (leftOut === null) return;
    log[level](text, leftOut === 0 ? fields : { ...fields, lines_left_out: leftOut });
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
    if (this.#carried !== null) yield { name: BEFORE_RESTART, ...this.#carried.xmins };
  }

  #noteTooOld(names: readonly string[], { maxAge }: HorizonRules): void {
    const now = new Set(names);
    const fields = { max_feedback_xmin_age: maxAge === null ? null : Number(maxAge) };
    for (const name of now) {
      if (this.#tooOld.has(name)) continue;
      this.#say(
        'warn',
        'what a standby or slot holds is too old and left out of the feedback: rows that its queries need may be removed',
        { name, ...fields },
      );
    }
    for (const name of this.#tooOld) {
      if (now.has(name)) continue;
      this.#say('info', 'a standby or slot counts in the feedback again', { name });
    }
    this.#tooOld = now;
  }

  /**
   * False while more is to be said than a crash would leave known; then it is saved first, slots before the note. A disk
   * that takes long is not waited for: protection now is worth more than after a crash.
   */
  #isNoted({ xmin, catalogXmin }: Xmins, slots: FeedingSlots): boolean {
    const { note, clock, onChanged } = this.#parts;
    const nowMs = clock.nowMs();
    const mayNoteAtMs = this.#notingSinceMs + FEEDBACK_SENT_MS_MIN;
    if (this.#noting !== null) return nowMs >= mayNoteAtMs;
    const xmins = { xmin, catalogXmin };
    const isDone = this.#isOnDisk(xmins);
    if (isDone) this.#unnoted = NO_XMINS;
    const standbys = this.#names();
    if (isDone || !isDeeper(this.#unnoted, xmins)) {
      const dueAtMs = this.#notedAtMs + FEEDBACK_SENT_MS_MIN;
      const noted = { xmins: note.saved.xmins, standbys };
      if (!isDone || isSame(note.saved, noted)) return true;
      if (nowMs < dueAtMs) this.#again.ensure(dueAtMs);
      else void this.#note(noted);
      return true;
    }
    // One that gets older with every message would be noted without end, and nobody's said. Messages are as far apart.
    if (nowMs < mayNoteAtMs) {
      this.#again.ensure(mayNoteAtMs);
      return true;
    }
    this.#notingSinceMs = nowMs;
    this.#noting = slots
      .saved()
      .then(() => this.#note({ xmins, standbys }))
      .then(() => {
        this.#noting = null;
        // What the disk does not take is said all the same.
        this.#unnoted = this.#isOnDisk(xmins) ? NO_XMINS : xmins;
        onChanged();
      });
    return false;
  }

  /** A note that is on its way there may say less than the one that it replaces. */
  #isOnDisk(xmins: Xmins): boolean {
    const { saved, wanted } = this.#parts.note;
    return !isDeeper(saved.xmins, xmins) && !isDeeper(wanted.xmins, xmins);
  }

  #note(noted: FeedbackNoted): Promise<void> {
    this.#notedAtMs = this.#parts.clock.nowMs();
    return this.#parts.note.save(noted);
  }

  /** Who holds something that no slot remembers over a restart, and who did before the restart and is not back; null for too many. */
  #names(): readonly string[] | null {
    if (this.#isFrozen) return this.#namesAtEnd;
    const names: string[] = [];
    const forgotten = this.#temporarySlots();
    for (const { own, slot, standby } of this.#sessions) {
      const isForgotten = slot !== null && forgotten.has(slot);
      if (isForgotten || !isSameXmins(own, NO_XMINS)) names.push(standby.applicationName);
    }
    const awaited = this.#carried?.awaited ?? [];
    if (awaited === null || names.length + awaited.length > FEEDBACK_NAMES_MAX) return null;
    return [...names, ...awaited].toSorted();
  }

  /** Names of those that hold something and are not there after a restart. */
  #temporarySlots(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const { name, isTemporary } of this.#parts.slots()?.held() ?? []) {
      if (isTemporary) names.add(name);
    }
    return names;
  }
}

/** One session that feeds back, or may. */
export class FeedingSession implements StandbyFeedback {
  readonly #book: StandbyFeedbackBook;
  readonly standby: { readonly pid: number; readonly applicationName: string };
  slot: string | null = null;
  /** What the session itself holds; nothing once it has fed a slot. */
  own: Xmins = NO_XMINS;
  /** As it was taken last; null before. */
  said: Xmins | null = null;
  /** Came before the next transaction id was known. */
  pending: WireXmins | null = null;
  /** The last message was ignored. */
  isVoid = false;
  /** It is one of those who were waited for after a restart. */
  isBack = false;

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
