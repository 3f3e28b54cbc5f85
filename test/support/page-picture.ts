// What the status page gets over its stream, made from made-up figures by the API's own code.
import type { StandbyJson } from '../../src/http/api-types.ts';
import type { ChangeJson, SnapshotJson } from '../../src/http/event-types.ts';
import {
  slotsJson,
  standbyJson,
  statusJson,
  storeDetailJson,
  syncJson,
  upstreamDetailJson,
  walEnds,
} from '../../src/http/status-json.ts';
import type { RelayStatus, StandbyStatus } from '../../src/status/status.ts';
import { pictureOf } from '../../page/picture.ts';
import type { Picture } from '../../page/picture.ts';
import type { StandbyRow } from '../../page/standby-order.ts';
import { sampleStandby, sampleStatus } from './relay-status.ts';
import { SAMPLE_NOW_MS } from './status-json.ts';

/** The event `snapshot` of that relay. */
export function snapshotOf(status: RelayStatus, atMs: number = SAMPLE_NOW_MS): SnapshotJson {
  return {
    at: new Date(atMs).toISOString(),
    status: statusJson(status, atMs),
    upstream: upstreamDetailJson(status),
    store: storeDetailJson(status),
    slots: slotsJson(status),
    sync: syncJson(status),
  };
}

/** The picture that the page has of that relay. */
export function samplePicture(
  overrides: Partial<RelayStatus> = {},
  atMs: number = SAMPLE_NOW_MS,
): Picture {
  return pictureOf(snapshotOf(sampleStatus(overrides), atMs));
}

/** One standby as the page gets it. */
export function pageStandby(
  overrides: Partial<StandbyStatus> = {},
  fields: Partial<StandbyJson> = {},
): StandbyJson {
  return { ...standbyJson(sampleStandby(overrides), walEnds(sampleStatus())), ...fields };
}

/** A row of a standby that is there. */
export function rowOf(
  name: string,
  fields: Partial<StandbyJson> = {},
): Extract<StandbyRow, { kind: 'here' }> {
  const standby = pageStandby({ applicationName: name, slotName: null }, fields);
  return { key: name, kind: 'here', standby };
}

/** A change in which nothing has changed but what is given. */
export function changeOf(parts: Partial<ChangeJson>, atMs: number = SAMPLE_NOW_MS): ChangeJson {
  return { at: new Date(atMs).toISOString(), standbys: { changed: [], gone: [] }, ...parts };
}
