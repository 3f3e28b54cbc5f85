// The samples of the standbys: one series a name, however many sessions share it, and never more names than the cap.
import { INVALID_LSN, lsnDistance, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { WALSENDER_STATES } from '../status/status.ts';
import type { RelayStatus, StandbyStatus } from '../status/status.ts';
import { CounterBook } from './counter-book.ts';
import { knownEnd, UPSTREAM_LABEL } from './relay-samples.ts';
import type { Samples } from './samples.ts';
import { OTHER_STANDBYS, StandbyLabels } from './standby-labels.ts';

const STANDBY_STATES: readonly string[] = ['disconnected', ...WALSENDER_STATES];

/** What the scrapes have to remember between them: labels handed out, counters, which standby used which slot. */
export class StandbySampler {
  readonly #labels: StandbyLabels;
  readonly #sentBytes = new CounterBook();
  readonly #blockedSeconds = new CounterBook();
  readonly #connects = new CounterBook();
  readonly #slotOwners = new Map<string, string>();

  constructor(options: { cap: number; forgetMs: number }) {
    this.#labels = new StandbyLabels(options);
  }

  /** Adds every standby family; `nowMs` is monotonic. */
  add(samples: Samples, status: RelayStatus, nowMs: number): void {
    const groups = this.#group(status.standbys, nowMs);
    const end = knownEnd(status);
    for (const [label, sessions] of groups.shown) addGroup(samples, label, { sessions, end });
    this.#addDisconnected(samples, status, { shown: groups.shown, nowMs });
    samples.add('standby_series_overflow', {}, groups.foldedNames);
    addTotals(samples, status);
    this.#addCounters(samples, status, nowMs);
  }

  #group(standbys: readonly StandbyStatus[], nowMs: number): Groups {
    const shown = new Map<string, StandbyStatus[]>();
    const folded = new Set<string>();
    for (const standby of standbys) {
      const label = this.#labels.labelOf(standby.applicationName, nowMs);
      if (label === OTHER_STANDBYS) folded.add(standby.applicationName);
      const sessions = shown.get(label);
      if (sessions === undefined) shown.set(label, [standby]);
      else sessions.push(standby);
    }
    this.#labels.forget(nowMs);
    return { shown, foldedNames: folded.size };
  }

  /**
   * A slot nobody uses stands for a standby that is away: under the name that used it last, else the slot's own. So does a
   * name that synchronous_standby_names lists and nobody bears.
   */
  #addDisconnected(
    samples: Samples,
    status: RelayStatus,
    { shown, nowMs }: { readonly shown: Groups['shown']; readonly nowMs: number },
  ): void {
    for (const [label, sessions] of shown) {
      if (label === OTHER_STANDBYS) continue;
      for (const { slotName } of sessions)
        if (slotName !== null) this.#slotOwners.set(slotName, label);
    }
    const slots = new Set(status.slots.map(({ name }) => name));
    for (const slot of this.#slotOwners.keys()) if (!slots.has(slot)) this.#slotOwners.delete(slot);
    const away = status.slots.filter(
      ({ temporary, activePid }) => !temporary && activePid === null,
    );
    const labels = new Set(away.map(({ name }) => this.#slotOwners.get(name) ?? name));
    const known = new Set([...shown.keys(), ...labels].map((label) => label.toLowerCase()));
    for (const name of status.sync.names) {
      const label = this.#labels.labelOf(name, nowMs);
      // Names of the list are compared without regard to case.
      if (label === OTHER_STANDBYS || known.has(label.toLowerCase())) continue;
      known.add(label.toLowerCase());
      labels.add(label);
    }
    for (const standby of labels) {
      if (shown.has(standby)) continue;
      samples.addStates(
        'standby_state',
        { standby },
        {
          label: 'state',
          words: STANDBY_STATES,
          current: 'disconnected',
        },
      );
    }
  }

  #addCounters(samples: Samples, status: RelayStatus, nowMs: number): void {
    const alive = new Set<string>();
    for (const {
      pid,
      connectedAtMs,
      applicationName,
      sentBytes,
      sendBlockedSeconds,
    } of status.standbys) {
      const key = `${pid} ${connectedAtMs}`;
      const label = this.#labels.labelOf(applicationName, nowMs);
      alive.add(key);
      this.#sentBytes.advance(key, label, sentBytes);
      this.#blockedSeconds.advance(key, label, sendBlockedSeconds);
    }
    const isAlive = (key: string): boolean => alive.has(key);
    this.#sentBytes.keepSources(isAlive);
    this.#blockedSeconds.keepSources(isAlive);
    const live = new Set(status.standbys.map(({ applicationName }) => applicationName));
    for (const [name, count] of status.standbyTotals.connects) {
      // A standby that comes and goes between two scrapes is the one this counter is for.
      const isNews = name !== OTHER_STANDBYS && this.#connects.hasGrown(name, count);
      const label =
        isNews || live.has(name) ? this.#labels.labelOf(name, nowMs) : this.#labels.peek(name);
      this.#connects.advance(name, label, count);
    }
    this.#render(samples);
  }

  #render(samples: Samples): void {
    const families = [
      ['standby_sent_bytes_total', this.#sentBytes],
      ['standby_send_blocked_seconds_total', this.#blockedSeconds],
      ['standby_connects_total', this.#connects],
    ] as const;
    for (const [family, book] of families) {
      book.keepLabels((label) => this.#labels.isShown(label));
      for (const [standby, total] of book.totals()) samples.add(family, { standby }, total);
    }
  }
}

interface Groups {
  readonly shown: ReadonlyMap<string, readonly StandbyStatus[]>;
  readonly foldedNames: number;
}

/** Sessions of one name are shown as the one that is furthest behind. */
function addGroup(
  samples: Samples,
  standby: string,
  group: { readonly sessions: readonly StandbyStatus[]; readonly end: Lsn },
): void {
  const { sessions, end } = group;
  const labels = { standby };
  const first = sessions[0];
  if (first !== undefined && standby !== OTHER_STANDBYS) {
    addIdentity(samples, standby, first);
    // They share the name, and so the place; one that has reported no flush position has none yet.
    const priority = Math.max(...sessions.map(({ syncPriority }) => syncPriority));
    samples.add('standby_sync_priority', labels, priority);
  }
  const positions = {
    send: lowest(sessions.map(({ sentLsn }) => sentLsn)),
    write: lowest(sessions.map(({ writeLsn }) => writeLsn)),
    flush: lowest(sessions.map(({ flushLsn }) => flushLsn)),
    replay: lowest(sessions.map(({ applyLsn }) => applyLsn)),
  };
  samples.addLsn('standby_sent_lsn_bytes', labels, positions.send);
  samples.addLsn('standby_write_lsn_bytes', labels, positions.write);
  samples.addLsn('standby_flush_lsn_bytes', labels, positions.flush);
  samples.addLsn('standby_replay_lsn_bytes', labels, positions.replay);
  for (const [stage, lsn] of Object.entries(positions)) {
    if (lsn === INVALID_LSN || end === INVALID_LSN) continue;
    samples.add('standby_lag_bytes', { standby, stage }, Math.max(0, lsnDistance(lsn, end)));
  }
  const lags = {
    write: highest(sessions.map(({ endToEndLag }) => endToEndLag.writeSeconds)),
    flush: highest(sessions.map(({ endToEndLag }) => endToEndLag.flushSeconds)),
    replay: highest(sessions.map(({ endToEndLag }) => endToEndLag.applySeconds)),
  };
  for (const [stage, seconds] of Object.entries(lags)) {
    samples.addIfKnown('standby_lag_seconds', { standby, stage }, seconds);
  }
  const queued = sessions.reduce((total, { sendQueueBytes }) => total + sendQueueBytes, 0);
  samples.add('standby_send_queue_bytes', labels, queued);
  const replies = sessions.map(({ lastReplyAtMs }) => lastReplyAtMs).filter((ms) => ms !== null);
  if (replies.length > 0) {
    samples.add('standby_last_reply_timestamp_seconds', labels, Math.min(...replies) / 1000);
  }
}

function addIdentity(samples: Samples, standby: string, session: StandbyStatus): void {
  samples.add(
    'standby_info',
    {
      standby,
      client_addr: session.clientAddr ?? '',
      user: session.user,
      slot: session.slotName ?? '',
      upstream: UPSTREAM_LABEL,
      tls_version: session.tlsVersion ?? '',
    },
    1,
  );
  samples.addStates(
    'standby_state',
    { standby },
    {
      label: 'state',
      words: STANDBY_STATES,
      current: session.state,
    },
  );
}

function addTotals(samples: Samples, status: RelayStatus): void {
  for (const state of WALSENDER_STATES) {
    const count = status.standbys.filter((standby) => standby.state === state).length;
    samples.add('standby_connections', { state }, count);
  }
  samples.add('standby_connections_limit', {}, status.standbyTotals.connectionsMax);
  for (const [reason, count] of Object.entries(status.standbyTotals.disconnects)) {
    samples.add('standby_disconnects_total', { reason }, count);
  }
}

/** The lowest known position; unknown only when none is known. */
function lowest(positions: readonly Lsn[]): Lsn {
  const known = positions.filter((lsn) => lsn !== INVALID_LSN);
  return known.reduce((least, lsn) => minLsn(least, lsn), known[0] ?? INVALID_LSN);
}

function highest(seconds: readonly (number | null)[]): number | null {
  const known = seconds.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}
