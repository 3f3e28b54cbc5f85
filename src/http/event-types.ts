// What `GET /api/v1/events` sends: the JSON behind `data:` of each event. A snapshot is everything; a change names what is other
// than in what was sent before it.
import type {
  SlotJson,
  StandbyJson,
  StatusJson,
  StoreDetailJson,
  SyncJson,
  UpstreamDetailJson,
} from './api-types.ts';

/** The names of events, as in their line `event:`. */
export const EVENT_NAMES: readonly ['snapshot', 'change', 'end'] = ['snapshot', 'change', 'end'];
/** One of them. */
export type EventName = (typeof EVENT_NAMES)[number];

/**
 * `event: snapshot`: everything, each as the route of its name answers it. The first event of every connection; a later one
 * stands for all that was left out because the client was too slow, and replaces everything.
 */
export interface SnapshotJson {
  /** When the picture was taken, by the clock of walcast. */
  readonly at: string;
  readonly status: StatusJson;
  readonly upstream: UpstreamDetailJson;
  readonly store: StoreDetailJson;
  readonly slots: readonly SlotJson[];
  readonly sync: SyncJson;
}

/** `status` of a change: without the standbys, which are told one by one. */
export type StatusChangeJson = Omit<StatusJson, 'standbys'>;

/** `event: change`: what is not as it was, at most once a second. A key that is missing is as before. */
export interface ChangeJson {
  readonly at: string;
  readonly status?: StatusChangeJson;
  readonly upstream?: UpstreamDetailJson;
  readonly store?: StoreDetailJson;
  /** All of them, when one has changed. */
  readonly slots?: readonly SlotJson[];
  readonly sync?: SyncJson;
  readonly standbys: StandbyChangesJson;
}

/** Standbys are told apart by `pid`. Those that are named nowhere are as before. */
export interface StandbyChangesJson {
  /** New ones, and those of which anything is other; whole. */
  readonly changed: readonly StandbyJson[];
  /** The pids of those that have gone. */
  readonly gone: readonly number[];
}

/** `event: end`: nothing follows, and the connection ends. */
export interface EndJson {
  /** One sentence: walcast ends, or the token has changed. */
  readonly reason: string;
}
