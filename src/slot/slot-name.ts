// Which names may a replication slot have? (src/backend/replication/slot.c:ReplicationSlotValidateName)

/** NAMEDATALEN - 1: the longest name. */
export const SLOT_NAME_BYTES_MAX = 63;

/** A refusal as the replication protocol reports it. */
export interface SlotError {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** Null for a name PostgreSQL takes, else its refusal, word for word. */
export function checkSlotName(name: string): SlotError | null {
  if (name.length === 0) {
    return { sqlstate: '42602', message: `replication slot name "${name}" is too short` };
  }
  if (Buffer.byteLength(name) > SLOT_NAME_BYTES_MAX) {
    return { sqlstate: '42622', message: `replication slot name "${name}" is too long` };
  }
  if (!/^[a-z0-9_]+$/.test(name)) {
    return {
      sqlstate: '42602',
      message: `replication slot name "${name}" contains invalid character`,
      hint: 'Replication slot names may only contain lower case letters, numbers, and the underscore character.',
    };
  }
  return null;
}
