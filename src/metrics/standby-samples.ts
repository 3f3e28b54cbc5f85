// The samples of the standbys: one series a name, however many sessions share it, and never more names than the cap.
import { APPLICATION_NAMES_MAX } from '../config/limits.ts';
import { WALSENDER_STATES } from '../status/status.ts';
import type { RelayStatus, SentTotals, StandbyStatus } from '../status/status.ts';
import { CappedLabels, labelFor, OTHERS } from './capped-labels.ts';
import { CounterBook } from './counter-book.ts';
import { labelText, NO_LABELS, withLabel } from './label-text.ts';
import type { Pace } from './pace.ts';
import { knownEnd } from './relay-samples.ts';
import type { Samples } from './samples.ts';
import { addStandbyState, StandbyGroup } from './standby-group.ts';

/** About as many series a standby has. */
const ROWS_PER_STANDBY = 24;

/** One scrape of them. `nowMs` is monotonic. */
interface Scrape {
  readonly samples: Samples;
  readonly status: RelayStatus;
  readonly nowMs: number;
  readonly pace: Pace;
  /** By label. */
  readonly groups: Map<string, StandbyGroup>;
  /** What the sessions that are there have sent, by name. */
  readonly sent: Map<string, SentTotals>;
  /** Names that share the label of those beyond the cap, whether they are there or not. */
  readonly folded: Set<string>;
}

/** What the scrapes have to remember between them: labels handed out, counters, which standby used which slot. */
export class StandbySampler {
  readonly #cap: number;
  readonly #labels: CappedLabels;
  readonly #sentBytes = new CounterBook();
  readonly #blockedSeconds = new CounterBook();
  readonly #connects = new CounterBook();
  readonly #slotOwners = new Map<string, string>();

  constructor(options: { cap: number; forgetMs: number }) {
    this.#cap = options.cap;
    this.#labels = new CappedLabels(options);
  }

  /** Adds every standby family, a piece at a time. Not to be called again before it has ended. */
  *write(
    samples: Samples,
    status: RelayStatus,
    { nowMs, pace }: { readonly nowMs: number; readonly pace: Pace },
  ): Generator<undefined, void> {
    const scrape: Scrape = {
      samples,
      status,
      nowMs,
      pace,
      groups: new Map(),
      sent: new Map(),
      folded: new Set(),
    };
    // Whom the policy names is always shown: commits wait for them.
    for (const name of status.sync.names) this.#labels.labelOf(name, nowMs);
    yield* this.#readSessions(scrape);
    yield* this.#readConnects(scrape);
    yield* this.#readSent(scrape);
    this.#labels.forget(nowMs);
    const away = yield* this.#readAway(scrape);
    yield* this.#writeGroups(scrape, away);
    yield* this.#writeCounters(scrape);
    samples.add('standby_series_overflow', NO_LABELS, scrape.folded.size);
    samples.add('standby_connections_limit', NO_LABELS, status.standbyTotals.connectionsMax);
    for (const [reason, count] of Object.entries(status.standbyTotals.disconnects)) {
      samples.add('standby_disconnects_total', withLabel(NO_LABELS, 'reason', reason), count);
    }
  }

  /** Groups the sessions by label, and adds up what those of one name have done. */
  *#readSessions({
    samples,
    status,
    nowMs,
    pace,
    groups,
    folded,
    sent,
  }: Scrape): Generator<undefined, void> {
    const connections = new Map<string, number>(WALSENDER_STATES.map((state) => [state, 0]));
    for (const standby of status.standbys) {
      const { applicationName, state } = standby;
      const label = this.#labels.labelOf(applicationName, nowMs);
      if (label === OTHERS) folded.add(applicationName);
      const group = groups.get(label) ?? new StandbyGroup(label);
      groups.set(label, group);
      group.add(standby);
      this.#sentBytes.open(label);
      this.#blockedSeconds.open(label);
      addSent(sent, countedName(applicationName, status), standby);
      connections.set(state, (connections.get(state) ?? 0) + 1);
      if (pace.isEnough(1)) yield;
    }
    for (const [state, count] of connections) {
      samples.add('standby_connections', withLabel(NO_LABELS, 'state', state), count);
    }
  }

  *#readConnects({ status, nowMs, pace }: Scrape): Generator<undefined, void> {
    for (const [name, count] of status.standbyTotals.connects) {
      // A standby that comes and goes between two scrapes is the one this counter is for.
      const isNews = name !== OTHERS && this.#connects.hasGrown(name, count);
      const label = isNews ? this.#labels.labelOf(name, nowMs) : this.#labels.peek(name);
      if (pace.isEnough(1)) yield;
      // One that was forgotten is nobody, and nothing new of those beyond the cap.
      if (label === OTHERS && !this.#connects.hasGrown(name, count)) continue;
      this.#connects.advance(name, label, count);
    }
  }

  /**
   * Of one name the sessions that are over and those that are there make one count, which a session's end changes by nothing:
   * what it sent since the last scrape is not lost.
   */
  *#readSent({ status, sent, pace }: Scrape): Generator<undefined, void> {
    const { sentByEnded } = status.standbyTotals;
    for (const name of new Set([...sentByEnded.keys(), ...sent.keys()])) {
      const [ended, there] = [sentByEnded.get(name) ?? NOTHING, sent.get(name) ?? NOTHING];
      const label = this.#labels.peek(name);
      const sentBytes = ended.sentBytes + there.sentBytes;
      if (this.#sentBytes.hasGrown(name, sentBytes))
        this.#sentBytes.advance(name, label, sentBytes);
      const blocked = ended.blockedSeconds + there.blockedSeconds;
      if (this.#blockedSeconds.hasGrown(name, blocked))
        this.#blockedSeconds.advance(name, label, blocked);
      if (pace.isEnough(1)) yield;
    }
  }

  /**
   * Labels of standbys that are away. A slot nobody uses stands for one: under the name that used it last, else the slot's own.
   * So does a name that synchronous_standby_names lists and nobody bears.
   */
  *#readAway({ status, pace, groups, folded }: Scrape): Generator<undefined, ReadonlySet<string>> {
    for (const [label, { slots }] of groups) {
      for (const slot of slots) {
        // Of those beyond the cap nobody is told apart: their slots stand for themselves.
        if (label === OTHERS) this.#slotOwners.delete(slot);
        else this.#slotOwners.set(slot, label);
      }
    }
    const away = new Set<string>();
    const slots = new Set<string>();
    for (const { name, temporary, activePid } of status.slots) {
      slots.add(name);
      if (pace.isEnough(1)) yield;
      const owner = this.#slotOwners.get(name) ?? labelFor(name);
      if (temporary || activePid !== null || groups.has(owner) || away.has(owner)) continue;
      const isShown = away.size < this.#cap;
      if (!isShown) folded.add(owner);
      away.add(isShown ? owner : OTHERS);
    }
    for (const slot of this.#slotOwners.keys()) if (!slots.has(slot)) this.#slotOwners.delete(slot);
    // Names of the list are compared without regard to case.
    const known = lowerCase([...groups.keys(), ...away]);
    const knownFolded = lowerCase(folded);
    for (const name of status.sync.names) {
      const label = this.#labels.peek(name);
      const isKnown =
        label === OTHERS ? knownFolded.has(name.toLowerCase()) : known.has(label.toLowerCase());
      if (isKnown) continue;
      if (label === OTHERS) folded.add(name);
      known.add(label.toLowerCase());
      away.add(label);
    }
    return away;
  }

  *#writeGroups(
    { samples, status, pace, groups }: Scrape,
    away: ReadonlySet<string>,
  ): Generator<undefined, void> {
    const end = knownEnd(status);
    for (const [label, group] of groups) {
      group.write(samples, end, away.has(label));
      if (pace.isEnough(ROWS_PER_STANDBY)) yield;
    }
    for (const standby of away) {
      if (groups.has(standby)) continue;
      addStandbyState(samples, labelText({ standby }), 'disconnected');
      if (pace.isEnough(ROWS_PER_STANDBY / 4)) yield;
    }
  }

  *#writeCounters({ samples, pace }: Scrape): Generator<undefined, void> {
    const families = [
      ['standby_sent_bytes_total', this.#sentBytes],
      ['standby_send_blocked_seconds_total', this.#blockedSeconds],
      ['standby_connects_total', this.#connects],
    ] as const;
    for (const [family, book] of families) {
      book.keepLabels((label) => this.#labels.isShown(label));
      for (const [standby, total] of book.totals()) {
        samples.add(family, labelText({ standby }), total);
        if (pace.isEnough(1)) yield;
      }
    }
  }
}

const NOTHING: SentTotals = { sentBytes: 0, blockedSeconds: 0 };

function addSent(sent: Map<string, SentTotals>, name: string, standby: StandbyStatus): void {
  const before = sent.get(name) ?? NOTHING;
  sent.set(name, {
    sentBytes: before.sentBytes + standby.sentBytes,
    blockedSeconds: before.blockedSeconds + standby.sendBlockedSeconds,
  });
}

/** The name that a session is counted under, while it is there and afterwards: only so many are told apart. */
function countedName(name: string, { standbyTotals: { connects } }: RelayStatus): string {
  return connects.has(name) || connects.size < APPLICATION_NAMES_MAX ? name : OTHERS;
}

function lowerCase(names: Iterable<string>): Set<string> {
  const lower = new Set<string>();
  for (const name of names) lower.add(name.toLowerCase());
  return lower;
}
