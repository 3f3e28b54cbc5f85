// Standbys, those that are here and those that were, and what they hold, as schemas.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import {
  STANDBY_DEPARTURES,
  STANDBY_DISCONNECT_REASONS,
  STANDBY_FEEDBACK_STATES,
  SYNC_STATES,
  WALSENDER_STATES,
} from '../status/status.ts';
import type { AbsentStandbyJson, FeedbackJson, StandbyJson, SyncJson } from './api-types.ts';
import {
  counts,
  flag,
  integer,
  list,
  lsn,
  nullableInteger,
  nullableNumber,
  nullableObject,
  nullableOneOf,
  nullableText,
  nullableTime,
  number,
  object,
  oneOf,
  positions,
  text,
  time,
  xid,
} from './schema-words.ts';

const sentAndConfirmed = {
  sent_lsn: lsn('End of the WAL that was given to its socket.'),
  write_lsn: lsn('End of what it has written.'),
  flush_lsn: lsn('End of what is safe on its disk.'),
  replay_lsn: lsn('End of what it has replayed.'),
};

const standbyFields = object(
  {
    pid: integer('Number of its session here; what to DELETE to end it.'),
    application_name: text('As it calls itself.'),
    user: text('The role it came in as.'),
    client_addr: nullableText('Its address; null for a Unix socket.'),
    client_port: nullableInteger('Its port; null for a Unix socket.'),
    state: oneOf(WALSENDER_STATES, 'As in pg_stat_replication.'),
    sync_state: oneOf(SYNC_STATES, 'What it counts for in synchronous_standby_names of walcast.'),
    sync_priority: integer(
      'Its place in synchronous_standby_names; 0 when it is not listed or has reported no flush position.',
    ),
    slot_name: nullableText('The slot it uses.'),
    timeline: nullableInteger('The timeline that is streamed to it.'),
    ...sentAndConfirmed,
    write_lag: nullableNumber(
      'Seconds from the upstream’s sending to its writing. 0 when it has everything and is idle; null where it never reported that position.',
    ),
    flush_lag: nullableNumber('The same to its flushing.'),
    replay_lag: nullableNumber('The same to its replaying.'),
    hop_write_lag: nullableNumber(
      'Seconds from our sending to its confirmation, as in pg_stat_replication: null when idle.',
    ),
    hop_flush_lag: nullableNumber('The same for flushing.'),
    hop_replay_lag: nullableNumber('The same for replaying.'),
    replayed_commit_age: nullableNumber(
      'How long ago the last transaction was committed that it has replayed, in seconds; 0 when it has replayed all there are.',
    ),
    lag_bytes: nullableInteger(
      'The upstream’s end of WAL minus replay_lsn; minus flush_lsn for a receiver that does not replay, write_lsn for one that reports no flush either.',
    ),
    hop_lag_bytes: nullableInteger('The same from the end of what walcast has received.'),
    feedback: nullableObject(
      {
        xmin: xid('What it holds: full transaction id.'),
        catalog_xmin: xid('The same for catalogs.'),
        state: oneOf(
          STANDBY_FEEDBACK_STATES,
          'none: it holds nothing. counted: it is in the minimum. too_old: left out because of max_feedback_xmin_age. invalid: its last message was none that a server takes. unknown: it waits for the next transaction id.',
        ),
        xmin_age: nullableInteger('Transaction ids from the older one to the next one.'),
      },
      'Its hot standby feedback; null: it has sent none.',
    ),
    clamped_replies: integer(
      'Replies that claimed more than it had been sent; the claim counts up to that.',
    ),
    reply_time: nullableTime('Its own clock in its last reply.'),
    connected_at: time('When it came.'),
    sent_bytes: integer('WAL given to its socket on this connection.'),
    tls: flag('Its connection is encrypted.'),
    tls_version: nullableText('TLSv1.3; null without TLS.'),
    stalled: flag('It has confirmed nothing more for a minute although there is more WAL for it.'),
    name_shared: flag('Other standbys stream under the same application_name.'),
  },
  'One connected standby; columns as in pg_stat_replication, lags in seconds.',
);

const absentFields = object(
  {
    application_name: text('As it called itself.'),
    user: text('The role it came in as.'),
    client_addr: nullableText('Its address; null for a Unix socket.'),
    slot_name: nullableText('The slot it used.'),
    state: oneOf(
      ['away', 'wedged?'],
      'wedged?: it said goodbye with WAL that it had received and not replayed, and is not back after a minute: see its log.',
    ),
    how: oneOf(STANDBY_DEPARTURES, 'What was seen of its going.'),
    reason: oneOf(STANDBY_DISCONNECT_REASONS, 'Why its last session ended, as it is counted.'),
    left_at: time('When it left.'),
    timeline: nullableInteger('The timeline that was streamed to it.'),
    ...sentAndConfirmed,
  },
  'A standby that streamed, left, and is not back; positions as it reported them last.',
);

const feedbackFields = object(
  {
    hot_standby_feedback: flag('upstream.hot_standby_feedback'),
    xmin: xid('As the upstream was told last: full transaction id.'),
    catalog_xmin: xid('The same for catalogs.'),
    sent_at: nullableTime('When it was told.'),
    next_xid: xid('The next transaction id as the WAL tells it; while null, nothing is sent.'),
    held_by: nullableText('application_name or slot that holds the upstream back furthest.'),
    ignored: counts(
      { future: 'An id in the future.', past: 'One too far in the past.' },
      'Messages of standbys since the start that named an id that cannot be.',
    ),
    left_out: integer('Standbys and slots left out now because of max_feedback_xmin_age.'),
  },
  'Hot standby feedback of all standbys and slots together.',
);

const syncFields = object(
  {
    synchronous_standby_names: text('The policy as it was written; empty: our own disk is enough.'),
    method: nullableOneOf(['priority', 'quorum'], 'FIRST, ANY; null without a policy.'),
    required_standbys: integer('How many have to confirm.'),
    eligible_standbys: integer('How many are there that count.'),
    satisfied: flag('Enough are there; true without a policy.'),
    since: nullableTime('Since when that is so.'),
    changes: integer('How often it changed since the start.'),
    unsatisfied_seconds: number('How long there were too few since the start, all in all.'),
    confirmed: positions('What the chosen ones have confirmed; without a policy our own ends.'),
    reported: positions('What the upstream was told last.'),
    upstream: nullableObject(
      {
        synchronous_standby_names: text('As SHOW printed it.'),
        membership: oneOf(
          ['named', 'any', 'none'],
          'How our application_name is listed there: by its name, by *, or not at all.',
        ),
        as_of: nullableTime('When it was asked: at the last connect.'),
      },
      'The upstream’s own synchronous_standby_names; null where it does not say.',
    ),
    clash: nullableText(
      'Why our application_name may satisfy commits that wait for somebody else.',
    ),
    alarms: list(text('One sentence.'), 'What a person has to look at now.'),
  },
  'Which standbys have to confirm before walcast does, and whether they can.',
);

/** One standby. */
export const standby: TUnsafe<StandbyJson> = Type.Unsafe<StandbyJson>(standbyFields);
/** Answer of `/api/v1/standbys`. */
export const standbys: TUnsafe<StandbyJson[]> = Type.Unsafe<StandbyJson[]>(
  list(standby, 'Every connected standby, in the order of their sessions.'),
);
/** One that is away. */
export const absentStandby: TUnsafe<AbsentStandbyJson> =
  Type.Unsafe<AbsentStandbyJson>(absentFields);
/** As in the status. */
export const feedback: TUnsafe<FeedbackJson> = Type.Unsafe<FeedbackJson>(feedbackFields);
/** Answer of `/api/v1/sync`. */
export const sync: TUnsafe<SyncJson> = Type.Unsafe<SyncJson>(syncFields);

// The compiler checks that the interfaces say the same as the schemas.
const agreement: readonly [
  Static<typeof standbyFields> extends StandbyJson ? true : never,
  Static<typeof absentFields> extends AbsentStandbyJson ? true : never,
  Static<typeof feedbackFields> extends FeedbackJson ? true : never,
  Static<typeof syncFields> extends SyncJson ? true : never,
] = [true, true, true, true];
void agreement;
