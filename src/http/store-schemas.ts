// The WAL store and the replication slots, as schemas.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import type {
  DeadWalJson,
  SlotJson,
  SlotRequestJson,
  StoreDetailJson,
  StoreJson,
} from './api-types.ts';
import {
  counts,
  flag,
  integer,
  list,
  lsn,
  nullableInteger,
  nullableObject,
  nullableOneOf,
  nullableTime,
  object,
  text,
  xid,
} from './schema-words.ts';

/** pg_replication_slots.invalidation_reason, as far as physical slots have one. */
const INVALIDATION_REASONS = ['wal_removed', 'idle_timeout'] as const;

const fields = {
  oldest_lsn: lsn('Start of the oldest WAL that is stored.'),
  flushed_lsn: lsn('End of the WAL that is safe on the disk.'),
  size_bytes: integer('What the segments take on the disk.'),
  segments: integer('How many there are.'),
  limit_bytes: nullableInteger(
    'storage.quota, or what max_slot_wal_keep_size and wal_keep_size come to; null without a bound.',
  ),
  near_limit: flag('From 80 % of limit_bytes on.'),
};

const deadFields = object(
  {
    files: integer('How many.'),
    bytes: integer('What they take on the disk.'),
    acknowledged: nullableObject(
      {
        timeline: integer('The timeline that was left.'),
        switch_lsn: lsn('Where it was left: the first byte that is not on it any more.'),
        reported_flush_lsn: lsn('Up to where it had been reported as flushed.'),
        bytes: integer('From the one to the other.'),
      },
      'Null unless more had been reported upstream as flushed than the next timeline has.',
    ),
  },
  'WAL from behind a switch point, kept aside; or what was let go of it.',
);

const storeFields = object(fields, 'The WAL that is stored.');

const detailFields = object(
  {
    ...fields,
    timeline: nullableInteger('The timeline that is stored.'),
    received_lsn: lsn('End of the WAL that was received and checked.'),
    written_lsn: lsn('End of the WAL that was given to the disk.'),
    segments_removed: integer('Segments removed since the start.'),
    segments_removed_by_limit: integer(
      'Of those, removed because of the limit: some slot was lost, or the window was cut.',
    ),
    slots_invalidated: counts(
      {
        wal_removed: 'It needed more WAL than may be kept.',
        idle_timeout: 'Nobody used it for idle_replication_slot_timeout.',
      },
      'Slots lost since the start, by reason.',
    ),
    memory_bytes: integer('WAL kept in memory.'),
    memory_bytes_max: integer('At most.'),
    read_bytes: counts(
      {
        memory: 'From memory.',
        disk: 'From segment files.',
        upstream: 'Read through from the upstream: it is older than the store.',
      },
      'Where WAL that was sent to standbys came from, since the start.',
    ),
    rejected: counts(
      { upstream: 'From the upstream.', disk: 'From the disk.' },
      'WAL that failed its checks since the start, by where it came from.',
    ),
    errors: counts(
      {
        open: 'Opening a file.',
        write: 'Writing.',
        fsync: 'Making durable.',
        read: 'Reading.',
        remove: 'Removing.',
      },
      'Errors of the disk since the start.',
    ),
    read_through: counts(
      { connections: 'Open now.', connections_max: 'At most.' },
      'Connections to the upstream for WAL that is older than the store.',
    ),
    repairs: counts(
      { repaired: 'Fetched again from the upstream.', failed: 'Not.' },
      'Segments found damaged on the disk since the start.',
    ),
    dead: deadFields,
    free_bytes: nullableInteger(
      'Free on the file system of the store, as of a few seconds ago; null when it is not known.',
    ),
    disk_bytes: nullableInteger('How large that file system is; null when it is not known.'),
  },
  'The WAL that is stored, and what became of it since the start.',
);

const slotFields = object(
  {
    slot_name: text('Its name.'),
    slot_type: Type.Literal('physical', { description: 'Always physical.' }),
    temporary: flag('It goes with the session that made it.'),
    active: flag('A standby uses it.'),
    active_pid: nullableInteger('The pid of that standby’s session here.'),
    xmin: xid(
      'What its standby’s feedback holds: full transaction id, epoch in the upper 32 bits.',
    ),
    catalog_xmin: xid('The same for catalogs.'),
    restart_lsn: lsn('Start of the WAL that it keeps; null: it reserves none, or was lost.'),
    wal_status: nullableOneOf(
      ['reserved', 'extended', 'unreserved', 'lost'],
      'As in pg_replication_slots; null: it reserves none.',
    ),
    safe_wal_size: nullableInteger(
      'Bytes that may be written before it is lost; negative when that may be at any time. Null for a lost one, and without a bound.',
    ),
    invalidation_reason: nullableOneOf(INVALIDATION_REASONS, 'Why it was lost.'),
    inactive_since: nullableTime(
      'When it was last used, or loaded at our start; null while in use.',
    ),
    retained_bytes: nullableInteger(
      'From restart_lsn to the end of what was received; null for a slot that reserves nothing, or was lost.',
    ),
  },
  'One replication slot; columns as in pg_replication_slots.',
);

const requestFields = object(
  {
    name: text('lower case letters, digits and underscores, 63 at most'),
    reserve_wal: Type.Optional(flag('keep WAL from now on, not only from the first use on')),
  },
  'A physical slot to create; options as in CREATE_REPLICATION_SLOT.',
);

/** As in the status. */
export const store: TUnsafe<StoreJson> = Type.Unsafe<StoreJson>(storeFields);
/** Answer of `/api/v1/store`. */
export const storeDetail: TUnsafe<StoreDetailJson> = Type.Unsafe<StoreDetailJson>(detailFields);
/** Part of it, and answer of `/api/v1/store/release`. */
export const deadWal: TUnsafe<DeadWalJson> = Type.Unsafe<DeadWalJson>(deadFields);
/** One slot. */
export const slot: TUnsafe<SlotJson> = Type.Unsafe<SlotJson>(slotFields);
/** Answer of `/api/v1/slots`. */
export const slots: TUnsafe<SlotJson[]> = Type.Unsafe<SlotJson[]>(
  list(slot, 'Every slot, by name.'),
);
/** Body that makes one. */
export const slotRequest: TUnsafe<SlotRequestJson> = Type.Unsafe<SlotRequestJson>(requestFields);

// The compiler checks that the interfaces say the same as the schemas.
const agreement: readonly [
  Static<typeof storeFields> extends StoreJson ? true : never,
  Static<typeof detailFields> extends StoreDetailJson ? true : never,
  Static<typeof deadFields> extends DeadWalJson ? true : never,
  Static<typeof slotFields> extends SlotJson ? true : never,
  Static<typeof requestFields> extends SlotRequestJson ? true : never,
] = [true, true, true, true, true];
void agreement;
