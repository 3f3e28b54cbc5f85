// The state of the whole relay, and the events that tell how it changes, as schemas.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import { FINDING_SEVERITIES } from '../health/finding.ts';
import { RELAY_STATES } from '../status/status.ts';
import { access } from './access-json.ts';
import type { FindingJson, StatusJson } from './api-types.ts';
import { configuration } from './configuration-json.ts';
import type { ChangeJson, EndJson, SnapshotJson } from './event-types.ts';
import {
  counts,
  flag,
  integer,
  list,
  nullableInteger,
  nullableText,
  object,
  oneOf,
  text,
  time,
} from './schema-words.ts';
import { absentStandby, feedback, standby, standbys, sync } from './standby-schemas.ts';
import { slots, store, storeDetail } from './store-schemas.ts';
import { upstream, upstreamDetail } from './upstream-schemas.ts';

const findingFields = object(
  {
    code: text('Which kind of thing it is, for programs.'),
    severity: oneOf(
      FINDING_SEVERITIES,
      'critical: WAL or commits stand still, or soon will. info: good to know.',
    ),
    subject: nullableText(
      'application_name of a standby, name of a slot, role of a certificate …; null: the relay.',
    ),
    message: text('What is the matter, with its figures.'),
    next_step: text('What to do next, one sentence.'),
    alert: nullableText('The alert of the same meaning; its page is docs/runbooks/ALERT.md.'),
  },
  'One thing that somebody should know.',
);

/** One thing that somebody should know. */
export const finding: TUnsafe<FindingJson> = Type.Unsafe<FindingJson>(findingFields);

const withoutStandbys = {
  version: text('Of walcast.'),
  system_identifier: nullableText('Of the cluster whose WAL is stored.'),
  server_version: nullableText('Of the upstream, as it says it.'),
  timeline: nullableInteger('The timeline that is stored.'),
  state: oneOf(RELAY_STATES, 'The weightiest that can be said of the relay.'),
  detail: nullableText('One sentence when it does not stream: why, and what to do.'),
  paused: flag(
    'No new replication is started, streams that run go on; also where state says something weightier.',
  ),
  started_at: time('When this process began.'),
  upstream,
  store,
  sync,
  feedback,
  absent_standbys: list(
    absentStandby,
    'The one that left last first; forgotten after a week, and when the slot is dropped.',
  ),
  standby_events: counts(
    {
      stalls: 'Standbys that stalled.',
      takeovers: 'Standbys that took their slot over from a dead connection of their own.',
    },
    'Since the start.',
  ),
  access,
  configuration,
  findings: list(finding, 'What is the matter, worst first; empty when all is well.'),
};

const statusFields = object({ ...withoutStandbys, standbys }, 'State of the whole relay.');
const statusChangeFields = object(withoutStandbys, 'State of the relay without the standbys.');

const at = time('When the picture was taken.');

const snapshotFields = object(
  { at, status: statusFields, upstream: upstreamDetail, store: storeDetail, slots, sync },
  'Everything, each as its own route answers it; it replaces all that was told before.',
);

const changeFields = object(
  {
    at,
    status: Type.Optional(statusChangeFields),
    upstream: Type.Optional(upstreamDetail),
    store: Type.Optional(storeDetail),
    slots: Type.Optional(slots),
    sync: Type.Optional(sync),
    standbys: object(
      {
        changed: list(standby, 'New ones, and those of which anything is other; whole.'),
        gone: list(integer('A pid.'), 'Those that have gone.'),
      },
      'Told apart by pid; those that are named nowhere are as before.',
    ),
  },
  'What is not as it was; a key that is missing is as before.',
);

const endFields = object(
  { reason: text('Why, one sentence.') },
  'The last event: nothing follows, and the connection ends.',
);

/** Answer of `/api/v1/status`. */
export const status: TUnsafe<StatusJson> = Type.Unsafe<StatusJson>(statusFields);
/** Data of `event: snapshot`. */
export const snapshotEvent: TUnsafe<SnapshotJson> = Type.Unsafe<SnapshotJson>(snapshotFields);
/** Data of `event: change`. */
export const changeEvent: TUnsafe<ChangeJson> = Type.Unsafe<ChangeJson>(changeFields);
/** Data of `event: end`. */
export const endEvent: TUnsafe<EndJson> = Type.Unsafe<EndJson>(endFields);

// The compiler checks that the interfaces say the same as the schemas.
const agreement: readonly [
  Static<typeof findingFields> extends FindingJson ? true : never,
  Static<typeof statusFields> extends StatusJson ? true : never,
  Static<typeof snapshotFields> extends SnapshotJson ? true : never,
  Static<typeof changeFields> extends ChangeJson ? true : never,
  Static<typeof endFields> extends EndJson ? true : never,
] = [true, true, true, true, true];
void agreement;
