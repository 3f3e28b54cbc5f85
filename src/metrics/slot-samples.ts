// The samples of the slots. Their number is bounded by max_replication_slots, which may be a quarter of a million: those beyond the
// cap are shown as one, each figure the worst of all, so that an alert on it still says the truth.
import { INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { RelayStatus, SlotStatus } from '../status/status.ts';
import { CappedLabels, OTHERS } from './capped-labels.ts';
import { SLOT_WAL_STATES } from './label-values.ts';
import { greatest, lowest } from './known-figures.ts';
import { labelText } from './label-text.ts';
import type { Pace } from './pace.ts';
import type { Samples } from './samples.ts';

/** About as many series a slot has. */
const ROWS_PER_SLOT = 8;

/** What is shown of a slot, or of several. */
interface SlotFigures {
  readonly isActive: boolean;
  readonly inactiveSeconds: number;
  readonly restartLsn: Lsn;
  /** Null when it is not known. */
  readonly retainedBytes: number | null;
  /** From the best on, see {@link SLOT_WAL_STATES}; -1 for one without. */
  readonly badness: number;
}

/** What the scrapes remember between them: which slots have series of their own. */
export class SlotSampler {
  readonly #labels: CappedLabels;

  constructor(options: { cap: number }) {
    // A slot that was dropped does not come back as the same.
    this.#labels = new CappedLabels({ cap: options.cap, forgetMs: 0 });
  }

  /** Adds the families of slots, a piece at a time. */
  *write(
    samples: Samples,
    status: RelayStatus,
    times: { readonly nowMs: number; readonly wallMs: number; readonly pace: Pace },
  ): Generator<undefined, void> {
    let others: SlotFigures | null = null;
    for (const slot of status.slots) {
      const figures = figuresOf(slot, status.store.receivedLsn, times.wallMs);
      const label = this.#labels.labelOf(slot.name, times.nowMs);
      if (label === OTHERS) others = others === null ? figures : worse(others, figures);
      else addFigures(samples, label, figures);
      if (times.pace.isEnough(ROWS_PER_SLOT)) yield;
    }
    if (others !== null) addFigures(samples, OTHERS, others);
    this.#labels.forget(times.nowMs);
  }
}

function figuresOf(slot: SlotStatus, receivedLsn: Lsn, wallMs: number): SlotFigures {
  const { activePid, restartLsn, inactiveSinceMs, walStatus } = slot;
  const isKnown = restartLsn !== INVALID_LSN && receivedLsn !== INVALID_LSN;
  const retained = isKnown ? Math.max(0, lsnDistance(restartLsn, receivedLsn)) : null;
  const inactiveMs = inactiveSinceMs === null ? 0 : Math.max(0, wallMs - inactiveSinceMs);
  return {
    isActive: activePid !== null,
    inactiveSeconds: inactiveMs / 1000,
    restartLsn,
    // A lost one keeps nothing, whatever it still names.
    retainedBytes: slot.invalidationReason === null ? retained : 0,
    badness: walStatus === null ? -1 : SLOT_WAL_STATES.indexOf(walStatus),
  };
}

function worse(one: SlotFigures, other: SlotFigures): SlotFigures {
  return {
    isActive: one.isActive && other.isActive,
    inactiveSeconds: Math.max(one.inactiveSeconds, other.inactiveSeconds),
    restartLsn: lowest(one.restartLsn, other.restartLsn),
    retainedBytes: greatest(one.retainedBytes, other.retainedBytes),
    badness: Math.max(one.badness, other.badness),
  };
}

function addFigures(samples: Samples, slot: string, figures: SlotFigures): void {
  const labels = labelText({ slot });
  samples.add('slot_active', labels, figures.isActive ? 1 : 0);
  samples.add('slot_inactive_seconds', labels, figures.inactiveSeconds);
  samples.addLsn('slot_restart_lsn_bytes', labels, figures.restartLsn);
  samples.addIfKnown('slot_retained_bytes', labels, figures.retainedBytes);
  const current = SLOT_WAL_STATES[figures.badness];
  if (current === undefined) return;
  samples.addStates('slot_wal_status', labels, {
    label: 'status',
    words: SLOT_WAL_STATES,
    current,
  });
}
