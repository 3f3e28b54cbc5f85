// The sessions that share one value of the label `standby`, shown as one: every figure is that of the one furthest behind.
import { INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { StandbyStatus } from '../status/status.ts';
import { OTHERS } from './capped-labels.ts';
import { greatest, least, lowest } from './known-figures.ts';
import { STANDBY_STATES, UPSTREAM } from './label-values.ts';
import { bounded, labelText, withLabel } from './label-text.ts';
import type { LabelText } from './label-text.ts';
import type { Samples } from './samples.ts';

/** From the best to the worst; `disconnected` is worse than all. */
const BADNESS: readonly string[] = ['streaming', 'catchup', 'stopping', 'backup', 'startup'];

/** Takes the sessions one by one; there may be thousands in one group. */
export class StandbyGroup {
  readonly #label: string;
  #first: StandbyStatus | null = null;
  /** Slots of its sessions, for the time when nobody uses them. */
  readonly slots: string[] = [];
  #badness = -1;
  #priority = 0;
  #queuedBytes = 0;
  #oldestReplyMs: number | null = null;
  #sentLsn: Lsn = INVALID_LSN;
  #writeLsn: Lsn = INVALID_LSN;
  #flushLsn: Lsn = INVALID_LSN;
  #applyLsn: Lsn = INVALID_LSN;
  #writeSeconds: number | null = null;
  #flushSeconds: number | null = null;
  #applySeconds: number | null = null;

  constructor(label: string) {
    this.#label = label;
  }

  add(standby: StandbyStatus): void {
    this.#first ??= standby;
    if (standby.slotName !== null) this.slots.push(standby.slotName);
    this.#badness = Math.max(this.#badness, BADNESS.indexOf(standby.state));
    // They share the name, and so the place; one that has reported no flush position has none yet.
    this.#priority = Math.max(this.#priority, standby.syncPriority);
    this.#queuedBytes += standby.sendQueueBytes;
    this.#oldestReplyMs = least(this.#oldestReplyMs, standby.lastReplyAtMs);
    this.#sentLsn = lowest(this.#sentLsn, standby.sentLsn);
    this.#writeLsn = lowest(this.#writeLsn, standby.writeLsn);
    this.#flushLsn = lowest(this.#flushLsn, standby.flushLsn);
    this.#applyLsn = lowest(this.#applyLsn, standby.applyLsn);
    const { writeSeconds, flushSeconds, applySeconds } = standby.endToEndLag;
    this.#writeSeconds = greatest(this.#writeSeconds, writeSeconds);
    this.#flushSeconds = greatest(this.#flushSeconds, flushSeconds);
    this.#applySeconds = greatest(this.#applySeconds, applySeconds);
  }

  /** Adds its series; `end` is the end of the WAL that is known to exist. `isAnyAway`: it stands for one that is not there, too. */
  write(samples: Samples, end: Lsn, isAnyAway: boolean): void {
    const labels = labelText({ standby: this.#label });
    this.#writeIdentity(samples, labels, isAnyAway);
    this.#writePositions(samples, labels, end);
    this.#writeLags(samples, labels);
    samples.add('standby_send_queue_bytes', labels, this.#queuedBytes);
    const oldest = this.#oldestReplyMs;
    const seconds = oldest === null ? null : oldest / 1000;
    samples.addIfKnown('standby_last_reply_timestamp_seconds', labels, seconds);
  }

  #writeIdentity(samples: Samples, labels: LabelText, isAnyAway: boolean): void {
    const first = this.#first;
    if (first === null) return;
    const worst = BADNESS[this.#badness] ?? null;
    addStandbyState(samples, labels, isAnyAway ? 'disconnected' : worst);
    if (this.#label === OTHERS) return;
    samples.add('standby_info', identityOf(this.#label, first), 1);
    samples.add('standby_sync_priority', labels, this.#priority);
  }

  #writePositions(samples: Samples, labels: LabelText, end: Lsn): void {
    samples.addLsn('standby_sent_lsn_bytes', labels, this.#sentLsn);
    samples.addLsn('standby_write_lsn_bytes', labels, this.#writeLsn);
    samples.addLsn('standby_flush_lsn_bytes', labels, this.#flushLsn);
    samples.addLsn('standby_replay_lsn_bytes', labels, this.#applyLsn);
    const lag = (stage: string, lsn: Lsn): void => {
      if (lsn === INVALID_LSN || end === INVALID_LSN) return;
      const bytes = Math.max(0, lsnDistance(lsn, end));
      samples.add('standby_lag_bytes', withLabel(labels, 'stage', stage), bytes);
    };
    lag('send', this.#sentLsn);
    lag('write', this.#writeLsn);
    lag('flush', this.#flushLsn);
    lag('replay', this.#applyLsn);
  }

  #writeLags(samples: Samples, labels: LabelText): void {
    const lag = (stage: string, seconds: number | null): void =>
      samples.addIfKnown('standby_lag_seconds', withLabel(labels, 'stage', stage), seconds);
    lag('write', this.#writeSeconds);
    lag('flush', this.#flushSeconds);
    lag('replay', this.#applySeconds);
  }
}

/** Adds the set of states of one standby. */
export function addStandbyState(samples: Samples, labels: LabelText, current: string | null): void {
  samples.addStates('standby_state', labels, { label: 'state', words: STANDBY_STATES, current });
}

function identityOf(standby: string, session: StandbyStatus): LabelText {
  return labelText({
    standby,
    client_addr: session.clientAddr ?? '',
    user: bounded(session.user),
    slot: session.slotName ?? '',
    upstream: UPSTREAM,
    tls_version: session.tlsVersion ?? '',
  });
}
