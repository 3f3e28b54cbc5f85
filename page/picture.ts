// What is known of the relay: the last snapshot, with every change since.
import type { SlotJson, StandbyJson } from '../src/http/api-types.ts';
import type { StoreDetailJson, SyncJson, UpstreamDetailJson } from '../src/http/api-types.ts';
import type { ChangeJson, SnapshotJson, StatusChangeJson } from '../src/http/event-types.ts';

/** One picture of everything; never changed in place. */
export interface Picture {
  /** When it was taken, by the clock of walcast: milliseconds since the Unix epoch. */
  readonly atMs: number;
  readonly status: StatusChangeJson;
  readonly upstream: UpstreamDetailJson;
  readonly store: StoreDetailJson;
  readonly slots: readonly SlotJson[];
  readonly sync: SyncJson;
  readonly standbys: ReadonlyMap<number, StandbyJson>;
}

/** From the event `snapshot`: it replaces whatever was known. */
export function pictureOf(snapshot: SnapshotJson): Picture {
  const { standbys, ...status } = snapshot.status;
  return {
    atMs: Date.parse(snapshot.at),
    status,
    upstream: snapshot.upstream,
    store: snapshot.store,
    slots: snapshot.slots,
    sync: snapshot.sync,
    standbys: new Map(standbys.map((standby) => [standby.pid, standby])),
  };
}

/** With the event `change`: what it does not name is as before. */
export function changedPicture(picture: Picture, change: ChangeJson): Picture {
  return {
    atMs: Date.parse(change.at),
    status: change.status ?? picture.status,
    upstream: change.upstream ?? picture.upstream,
    store: change.store ?? picture.store,
    slots: change.slots ?? picture.slots,
    sync: change.sync ?? picture.sync,
    standbys: changedStandbys(picture.standbys, change),
  };
}

function changedStandbys(
  standbys: ReadonlyMap<number, StandbyJson>,
  { standbys: { changed, gone } }: ChangeJson,
): ReadonlyMap<number, StandbyJson> {
  if (changed.length === 0 && gone.length === 0) return standbys;
  const next = new Map(standbys);
  for (const pid of gone) next.delete(pid);
  for (const standby of changed) next.set(standby.pid, standby);
  return next;
}
