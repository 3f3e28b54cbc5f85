// The JSON API as schemas: what fastify checks and serializes by. Field names are part of the contract with scripts.
import type { TSchema } from 'typebox';
import { access } from './access-json.ts';
import {
  configEntry,
  configuration,
  drain,
  logLevel,
  logLevelRequest,
  logLevels,
  pause,
  probeAnswer,
  problem,
  reload,
  standbyCheck,
  version,
} from './answer-schemas.ts';
import { absentStandby, feedback, standby, standbys, sync } from './standby-schemas.ts';
import { changeEvent, endEvent, finding, snapshotEvent, status } from './status-schemas.ts';
import { deadWal, slot, slotRequest, slots, store, storeDetail } from './store-schemas.ts';
import { discovery, upstream, upstreamDetail } from './upstream-schemas.ts';

/** One schema an answer or body, by name; `/openapi.json` shows them under these names. */
export const SCHEMAS: Readonly<
  Record<
    | 'status'
    | 'finding'
    | 'upstream'
    | 'upstreamDetail'
    | 'discovery'
    | 'standby'
    | 'standbys'
    | 'absentStandby'
    | 'slot'
    | 'slots'
    | 'slotRequest'
    | 'store'
    | 'storeDetail'
    | 'deadWal'
    | 'sync'
    | 'feedback'
    | 'access'
    | 'snapshotEvent'
    | 'changeEvent'
    | 'endEvent'
    | 'version'
    | 'configEntry'
    | 'configuration'
    | 'reload'
    | 'drain'
    | 'logLevel'
    | 'logLevels'
    | 'logLevelRequest'
    | 'pause'
    | 'probe'
    | 'standbyCheck'
    | 'problem',
    TSchema
  >
> = {
  status,
  finding,
  upstream,
  upstreamDetail,
  discovery,
  standby,
  standbys,
  absentStandby,
  slot,
  slots,
  slotRequest,
  store,
  storeDetail,
  deadWal,
  sync,
  feedback,
  access,
  snapshotEvent,
  changeEvent,
  endEvent,
  version,
  configEntry,
  configuration,
  reload,
  drain,
  pause,
  logLevel,
  logLevels,
  logLevelRequest,
  probe: probeAnswer,
  standbyCheck,
  problem,
};
