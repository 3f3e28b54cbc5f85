// How changes of the upstream session reach the log: one line per change that says something new, also when the same
// attempt fails every five seconds for a day.
import type { Log, LogFields } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { UpstreamIdentity } from './ports.ts';
import type { UpstreamView } from './upstream-events.ts';

/** The same trouble is repeated in the log this often at most. */
const REPEAT_MS = 60_000;

/** Hosts of which it is known what was last said of them. */
const HOSTS_REMEMBERED_MAX = 100;

/** What a line says besides the view. */
export interface JournalFacts {
  readonly host: string;
  readonly nowMs: number;
  /** End of what was received. */
  readonly receivedLsn: Lsn;
}

/** Why a host of the list was left. */
export interface HostLeft {
  readonly host: string;
  readonly reason: string;
  readonly isOtherKind: boolean;
}

/** What happened and what comes next, for the log and the observer. */
export interface JournalEntry {
  readonly reason: string;
  readonly nextStep: string;
}

/** Writes the log of one upstream session. */
export class UpstreamJournal {
  readonly #log: Log;
  #last = '';
  #troubleText = '';
  #troubleAtMs = Number.NEGATIVE_INFINITY;
  #warnedOfMajor: number | null = null;
  /** What was last said of each host, by name, and when. */
  readonly #left = new Map<string, { readonly reason: string; readonly atMs: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Logs the view when it differs from the last one; returns what was said, or null. */
  record(view: UpstreamView, facts: JournalFacts): JournalEntry | null {
    const identity = `${view.phase} ${view.heldState} ${view.hostIndex} ${view.detail}`;
    if (identity === this.#last) return null;
    this.#last = identity;
    const entry = { reason: reasonOf(view), nextStep: nextStepOf(view, facts.nowMs) };
    this.#write(view, facts, entry);
    return entry;
  }

  /** A warning, once, for a server of a major that nobody has run walcast against. */
  identified(identity: Pick<UpstreamIdentity, 'facts' | 'serverVersion'>): void {
    const { major, isVerified } = identity.facts;
    if (isVerified || this.#warnedOfMajor === major) return;
    this.#warnedOfMajor = major;
    this.#log.warn(
      `upstream: PostgreSQL ${major} is known to walcast from its sources only; compare what standbys replay before you rely on it`,
      { server_version: identity.serverVersion },
    );
  }

  /** One line for a host that was left in favour of the others; the same again at most once a minute. */
  hostLeft(left: HostLeft, nowMs: number): void {
    const { host, reason } = left;
    const last = this.#left.get(host);
    const fields: LogFields = { upstream: host };
    const text = `upstream: host ${host} is left out: ${reason}`;
    if (last?.reason === withoutPositions(reason) && nowMs - last.atMs < REPEAT_MS) {
      this.#log.debug(text, fields);
      return;
    }
    this.#forgetOldest();
    this.#left.set(host, { reason: withoutPositions(reason), atMs: nowMs });
    if (left.isOtherKind) this.#log.info(text, fields);
    else this.#log.warn(text, fields);
  }

  /** Lists of hosts may change for ever. */
  #forgetOldest(): void {
    const [oldest] = this.#left.keys();
    if (this.#left.size >= HOSTS_REMEMBERED_MAX && oldest !== undefined) this.#left.delete(oldest);
  }

  #write(view: UpstreamView, facts: JournalFacts, entry: JournalEntry): void {
    const fields: LogFields = {
      upstream: facts.host,
      state: view.phase,
      ...(view.heldState === null ? {} : { held: view.heldState }),
      received_lsn: formatLsn(facts.receivedLsn),
      next: entry.nextStep,
    };
    const isTrouble = view.phase === 'held' || view.phase === 'backoff';
    if (!isTrouble) {
      const isWorthTelling = view.phase === 'streaming' || view.phase === 'ending';
      if (view.phase === 'streaming') this.#troubleText = '';
      if (isWorthTelling) this.#log.info(`upstream: ${entry.reason}`, fields);
      else this.#log.debug(`upstream: ${entry.reason}`, fields);
      return;
    }
    if (this.#isRepetition(entry.reason, facts.nowMs)) {
      this.#log.debug(`upstream: ${entry.reason}`, fields);
    } else if (needsPerson(view)) {
      this.#log.error(`upstream: ${entry.reason}`, fields);
    } else {
      this.#log.warn(`upstream: ${entry.reason}`, fields);
    }
  }

  #isRepetition(reason: string, nowMs: number): boolean {
    const text = withoutPositions(reason);
    if (text === this.#troubleText && nowMs - this.#troubleAtMs < REPEAT_MS) return true;
    this.#troubleText = text;
    this.#troubleAtMs = nowMs;
    return false;
  }
}

/** A server that is waited for moves on between two looks; that alone is no news. */
function withoutPositions(text: string): string {
  return text.replaceAll(/\b[\dA-F]{1,8}\/[\dA-F]{1,8}\b/g, '…');
}

function needsPerson(view: UpstreamView): boolean {
  const state = view.heldState;
  return state === 'gap' || state === 'diverged' || state === 'corrupt' || state === 'failed';
}

function reasonOf(view: UpstreamView): string {
  if (view.phase === 'held' || view.phase === 'backoff') return view.detail ?? 'no stream';
  const words: Readonly<Record<Exclude<UpstreamView['phase'], 'held' | 'backoff'>, string>> = {
    disconnected: 'disconnected',
    connecting: 'connecting',
    login: 'logging in',
    identifying: 'identifying the server',
    deciding: 'deciding whether this server may be followed',
    starting: 'asking for WAL',
    streaming: 'streaming',
    ending: 'ending the stream',
  };
  return words[view.phase];
}

function nextStepOf(view: UpstreamView, nowMs: number): string {
  if (view.nextAttemptAtMs !== null) {
    const ms = Math.max(0, view.nextAttemptAtMs - nowMs);
    return ms < 1_000
      ? `try again in ${Math.round(ms)} ms`
      : `try again in ${(ms / 1_000).toFixed(1)} s`;
  }
  return view.phase === 'disconnected' ? 'nothing' : 'go on';
}
