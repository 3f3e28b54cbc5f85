// Bugs that the simulator has to find: one for each invariant at least, each a small mistake that a person could make, put around one
// function of a real class, or between the program and its disk, for the time of a run.
import { SlotStore } from '../../src/slot/slot-store.ts';
import { lowest } from '../../src/slot/slot.ts';
import { ReportedPositions } from '../../src/syncrep/reported-positions.ts';
import type { Positions, ReportFacts } from '../../src/syncrep/reported-positions.ts';
import { SyncDecider } from '../../src/syncrep/sync-standbys.ts';
import { WalSenderSession } from '../../src/walsender/session.ts';
import { Tail } from '../../src/wal/tail.ts';
import { StandbyPositions } from '../../src/walsender/standby-positions.ts';
import { INVALID_LSN, advanceLsn, minLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { StandbyStatusUpdate } from '../../src/wire/replication-messages.ts';
import { setGateDoor } from './gate-door.ts';
import type { DiskLies } from './machine/lies.ts';
import type { SimProcess } from './machine/sim-process.ts';
import { world } from './machine/world.ts';
import type { ScenarioWishes } from './scenario.ts';
import { SEGMENT_BYTES } from './postgres/cluster.ts';
import type { Invariant } from './verdict.ts';

/** A mistake that is put in for a run. */
export interface PlantedBug {
  readonly invariant: Invariant;
  readonly what: string;
  /** Puts it in; the answer takes it out again. */
  readonly plant: () => () => void;
  readonly lies?: DiskLies;
  /** Where it shows soonest. */
  readonly wishes?: ScenarioWishes;
}

const NOTHING_TO_PLANT = (): (() => void) => () => {};

/** One for each invariant that is checked, and some that are harder to see. */
export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    invariant: 'I1',
    what: 'now and then the writer tells of a flush that it left out',
    plant: NOTHING_TO_PLANT,
    lies: {
      beforeSync: (file, sync) => {
        const isSegment = /\/pg_wal\/[0-9A-F]{24}$/.test(file.path);
        if (!isSegment || !world().random.chance(0.05)) sync();
      },
    },
  },
  {
    invariant: 'I2',
    what: 'now and then the first flush position of a stream is reported once more',
    plant: reportTheFirstAgain,
  },
  {
    invariant: 'I3',
    what: 'behind the last message of a segment a stream stands eight bytes short',
    plant: standShort,
  },
  {
    invariant: 'I4',
    what: 'removal looks at positions of slots that are in memory only',
    plant: removeByMemory,
    wishes: { writeEveryMs: 40, keepMb: 1, hasSlots: true, favours: 'fsync slow' },
  },
  {
    invariant: 'I5',
    what: 'an fsync that failed is tried again',
    plant: NOTHING_TO_PLANT,
    lies: {
      beforeSync: (_file, sync) => {
        try {
          sync();
        } catch {
          sync();
        }
      },
    },
    wishes: { favours: 'fsync failed' },
  },
  {
    invariant: 'I6',
    what: 'a stream does not ask what its connection holds already',
    plant: () => replace(WalSenderSession.prototype, 'pendingBytes', () => () => 0),
    wishes: { writeEveryMs: 40, manner: 'lags' },
  },
  {
    invariant: 'I7',
    what: 'while one connection is blocked, the others are not served either',
    plant: waitForTheSlowest,
    wishes: { writeEveryMs: 50, manner: 'lags' },
  },
  {
    invariant: 'I8',
    what: 'claims of a standby are not cut at what it was sent',
    plant: believeClaims,
    wishes: { manner: 'lies' },
  },
  {
    invariant: 'I9',
    what: 'the system identifier of an upstream is not compared',
    plant: takeStrangers,
    wishes: { favours: 'stranger at an address' },
  },
  {
    invariant: 'I6',
    what: 'memory behind a large message is not given back',
    plant: keepLargeMessages,
    wishes: { writeEveryMs: 60 },
  },
  {
    invariant: 'I8',
    what: 'claims of a standby are not cut where the timeline is left',
    plant: () => replace(StandbyPositions.prototype, 'cut', () => () => {}),
  },
  {
    invariant: 'I9',
    what: 'a history file is kept before it is known whether the upstream is followed',
    plant: keepEveryHistory,
    wishes: { favours: 'stranger at an address' },
  },
  {
    invariant: 'I11',
    what: 'one standby less than the policy requires is waited for',
    plant: waitForOneLess,
    wishes: { policy: { method: 'ANY', required: 2, names: null } },
  },
  {
    invariant: 'I11',
    what: 'what the kernel of the relay has is told as written by the standbys',
    plant: () => report((positions, { own }) => ({ ...positions, writeLsn: own.writtenLsn })),
    wishes: { policy: { method: 'FIRST', required: 1, names: ['s1'] } },
  },
  {
    invariant: 'I11',
    what: 'what standbys have flushed is told as applied',
    plant: () => report((positions) => ({ ...positions, applyLsn: positions.flushLsn })),
    wishes: { policy: { method: 'FIRST', required: 1, names: ['s1'] } },
  },
  {
    invariant: 'I11',
    what: 'while too few standbys are there the last flush position is said again',
    plant: standStill,
    wishes: { policy: { method: 'FIRST', required: 1, names: ['s1'] }, favours: 'standby killed' },
  },
  {
    invariant: 'I11',
    what: 'the furthest standby is waited for in place of the first one of the list',
    plant: waitForTheFurthest,
    wishes: { policy: { method: 'FIRST', required: 1, names: ['s2', 's1'] }, manner: 'lags' },
  },
];

/** Puts `make(original)` in the place of a method until it is undone. */
function replace<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (original: T[K]) => T[K],
): () => void {
  const original = prototype[name];
  prototype[name] = make(original);
  return () => {
    prototype[name] = original;
  };
}

function reportTheFirstAgain(): () => void {
  const firsts = new WeakMap<ReportedPositions, Lsn>();
  const undoStart = replace(ReportedPositions.prototype, 'startStream', (original) => {
    return function startStream(this: ReportedPositions, ...args) {
      firsts.delete(this);
      original.apply(this, args);
    };
  });
  const undoNext = replace(ReportedPositions.prototype, 'next', (original) => {
    return function next(this: ReportedPositions, ...args) {
      const reportable = original.apply(this, args);
      const { flushLsn } = reportable.positions;
      const first = firsts.get(this) ?? flushLsn;
      if (flushLsn !== INVALID_LSN) firsts.set(this, first);
      const isWrong = flushLsn !== INVALID_LSN && world().random.chance(0.02);
      if (!isWrong) return reportable;
      return { ...reportable, positions: { ...reportable.positions, flushLsn: first } };
    };
  });
  return () => {
    undoStart();
    undoNext();
  };
}

/** Puts `change` behind the rules, where a flush position is offered. */
function report(
  change: (positions: Positions, facts: ReportFacts) => Positions,
  isMeant = (positions: Positions): boolean => positions.flushLsn !== INVALID_LSN,
): () => void {
  return replace(ReportedPositions.prototype, 'next', (original) => {
    return function next(this: ReportedPositions, facts, nowMs) {
      const reportable = original.call(this, facts, nowMs);
      if (facts.quorum === null || !isMeant(reportable.positions)) return reportable;
      return { ...reportable, positions: change(reportable.positions, facts) };
    };
  });
}

function standStill(): () => void {
  const last = new WeakMap<ReportedPositions, Positions>();
  const undo = replace(ReportedPositions.prototype, 'next', (original) => {
    return function next(this: ReportedPositions, facts, nowMs) {
      const reportable = original.call(this, facts, nowMs);
      const { positions } = reportable;
      if (positions.flushLsn !== INVALID_LSN) last.set(this, positions);
      const before = last.get(this);
      const isLost = facts.quorum?.positions === null && before !== undefined;
      return isLost ? { ...reportable, positions: before } : reportable;
    };
  });
  const undoStart = replace(ReportedPositions.prototype, 'startStream', (original) => {
    return function startStream(this: ReportedPositions, ...args) {
      last.delete(this);
      original.apply(this, args);
    };
  });
  return () => {
    undo();
    undoStart();
  };
}

function waitForOneLess(): () => void {
  return replace(SyncDecider.prototype, 'decide', (original) => {
    return function decide(this: SyncDecider, policy, ...rest) {
      const less = policy === null ? null : { ...policy, required: policy.required - 1 };
      return original.call(this, less, ...rest);
    };
  });
}

function waitForTheFurthest(): () => void {
  return replace(SyncDecider.prototype, 'decide', (original) => {
    return function decide(this: SyncDecider, policy, ...rest) {
      const other = policy === null ? null : { ...policy, method: 'quorum' as const };
      return original.call(this, other, ...rest);
    };
  });
}

function standShort(): () => void {
  return replace(StandbyPositions.prototype, 'onSend', (original) => {
    return function onSend(this: StandbyPositions, endLsn, ...rest) {
      const isSegmentEnd = endLsn % BigInt(SEGMENT_BYTES) === 0n;
      original.call(this, isSegmentEnd ? advanceLsn(endLsn, -8) : endLsn, ...rest);
    };
  });
}

function removeByMemory(): () => void {
  return replace(SlotStore.prototype, 'minimumPersistedRestartLsn', () => {
    return function minimumPersistedRestartLsn(this: SlotStore) {
      // `read` knows what is in memory alone.
      const names = world().context.process === null ? [] : slotNames(this);
      const kept = names.map((name) => this.read(name)?.restartLsn ?? INVALID_LSN);
      return kept.reduce<Lsn | null>(
        (minimum, lsn) => lowest(minimum, lsn === INVALID_LSN ? null : lsn),
        null,
      );
    };
  });
}

/** Every slot a run can have. */
function slotNames(slots: SlotStore): string[] {
  return ['s1', 's2', 's3', 's4', 'r2'].filter((name) => slots.read(name) !== null);
}

function waitForTheSlowest(): () => void {
  const sessions = new Map<SimProcess, Set<WalSenderSession>>();
  return replace(WalSenderSession.prototype, 'pump', (original) => {
    return function pump(this: WalSenderSession) {
      const { process } = world().context;
      if (process === null) return;
      const mine = sessions.get(process) ?? new Set();
      sessions.set(process, mine.add(this));
      const isBlocked = [...mine].some((other) => other !== this && other.pendingBytes() > 0);
      if (!isBlocked) original.call(this);
    };
  });
}

function believeClaims(): () => void {
  const claims = new WeakMap<StandbyPositions, StandbyStatusUpdate>();
  const undo = replace(StandbyPositions.prototype, 'onReply', (original) => {
    return function onReply(this: StandbyPositions, update, nowMs) {
      claims.set(this, update);
      return original.call(this, update, nowMs);
    };
  });
  const getter = Object.getOwnPropertyDescriptor(StandbyPositions.prototype, 'flushLsn');
  if (getter === undefined) throw new Error('no such position');
  Object.defineProperty(StandbyPositions.prototype, 'flushLsn', {
    ...getter,
    get(this: StandbyPositions): Lsn {
      return claims.get(this)?.flushLsn ?? INVALID_LSN;
    },
  });
  return () => {
    undo();
    Object.defineProperty(StandbyPositions.prototype, 'flushLsn', getter);
  };
}

function takeStrangers(): () => void {
  setGateDoor((open) => (store, parts) => {
    const gate = open(store, parts);
    return {
      ...gate,
      decide: (identity) => {
        const systemIdentifier = store.stored()?.systemIdentifier ?? identity.systemIdentifier;
        return gate.decide({ ...identity, systemIdentifier });
      },
    };
  });
  return () => setGateDoor(null);
}

function keepLargeMessages(): () => void {
  const kept = new WeakMap<Tail, Lsn>();
  const undoAppend = replace(Tail.prototype, 'append', (original) => {
    return function append(this: Tail, data) {
      if (data.length > 50_000 && !kept.has(this)) kept.set(this, this.endLsn);
      original.call(this, data);
    };
  });
  const undoTrim = replace(Tail.prototype, 'trim', (original) => {
    return function trim(this: Tail, neededLsn) {
      original.call(this, minLsn(neededLsn, kept.get(this) ?? neededLsn));
    };
  });
  return () => {
    undoAppend();
    undoTrim();
  };
}

function keepEveryHistory(): () => void {
  setGateDoor((open) => (store, parts) => {
    const gate = open(store, parts);
    return {
      ...gate,
      decide: async (identity) => {
        const { historyFile, timeline } = identity;
        if (store.stored() !== null && historyFile !== null) {
          // A disk that fails is found elsewhere.
          await store.storeHistoryFile(timeline, historyFile).catch(() => {});
        }
        return await gate.decide(identity);
      },
    };
  });
  return () => setGateDoor(null);
}
