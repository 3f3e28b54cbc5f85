// How are slots kept on disk? One directory a slot, `pg_replslot/NAME/state`, a checksummed text file. A slot is made
// under `NAME.tmp` and renamed, and renamed back before it is removed, so a crash leaves it whole or not at all.
// (src/backend/replication/slot.c: CreateSlotOnDisk, ReplicationSlotDropPtr, StartupReplicationSlots)
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createDirectory, syncDirectory } from '../base/durable-fs.ts';
import { OperationalError } from '../base/errors.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { formatLsn, parseLsn } from '../pg/lsn.ts';
import { checkSlotName } from './slot-name.ts';
import { INVALIDATION_CAUSES } from './slot.ts';
import type { InvalidationCause, PersistentSlot } from './slot.ts';

/** Version 1 had no `invalidated`: nothing was ever lost. */
const KIND: StateFileKind = { magic: 'walcast-slot', version: 2, oldestVersion: 1 };
const STATE_FILE = 'state';
const TEMPORARY_SUFFIX = '.tmp';

/** The directory of all slots. Two operations on one slot must not overlap. */
export class SlotFiles {
  readonly #directory: string;

  constructor(dataDirectory: string) {
    this.#directory = join(dataDirectory, 'pg_replslot');
  }

  /** Reads every slot; half-made and half-removed ones go. Throws OperationalError for a damaged one. */
  async load(): Promise<PersistentSlot[]> {
    await createDirectory(this.#directory);
    const slots: PersistentSlot[] = [];
    for (const entry of await readdir(this.#directory, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      if (entry.name.endsWith(TEMPORARY_SUFFIX)) {
        await rm(join(this.#directory, entry.name), { recursive: true });
      } else if (checkSlotName(entry.name) === null) {
        slots.push(await this.#read(entry.name));
      }
    }
    return slots;
  }

  /** Durable when it resolves. */
  async create(slot: PersistentSlot): Promise<void> {
    const temporary = this.#path(slot.name + TEMPORARY_SUFFIX);
    await rm(temporary, { recursive: true, force: true });
    await createDirectory(temporary);
    await saveStateFile(join(temporary, STATE_FILE), KIND, encode(slot));
    await rename(temporary, this.#path(slot.name));
    await syncDirectory(this.#directory);
  }

  /** Replaces the state of an existing slot; durable when it resolves. */
  async save(slot: PersistentSlot): Promise<void> {
    await saveStateFile(join(this.#path(slot.name), STATE_FILE), KIND, encode(slot));
  }

  /** Durable when it resolves. */
  async remove(name: string): Promise<void> {
    const temporary = this.#path(name + TEMPORARY_SUFFIX);
    await rename(this.#path(name), temporary);
    await syncDirectory(this.#directory);
    await rm(temporary, { recursive: true });
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }

  async #read(name: string): Promise<PersistentSlot> {
    const file = join(this.#path(name), STATE_FILE);
    const state = await loadStateFile(file, KIND);
    const slot = state === null ? null : decode(name, state.body);
    if (slot !== null) return slot;
    throw new OperationalError(
      'SLOT_DAMAGED',
      `the state of replication slot "${name}" in "${file}" cannot be read`,
      {
        hint:
          'Nothing was changed. Remove the directory of this slot by hand if its standby can do without the WAL it kept, ' +
          'and create the slot anew.',
      },
    );
  }
}

function encode({ name, restartLsn, invalidation }: PersistentSlot): Record<string, string | null> {
  return { name, restart_lsn: formatLsn(restartLsn), invalidated: invalidation };
}

function decode(name: string, body: unknown): PersistentSlot | null {
  if (typeof body !== 'object' || body === null || !('restart_lsn' in body)) return null;
  const restartLsn = typeof body.restart_lsn === 'string' ? parseLsn(body.restart_lsn) : null;
  const invalidation = 'invalidated' in body ? causeOf(body.invalidated) : null;
  if (restartLsn === null || invalidation === undefined) return null;
  return { name, restartLsn, invalidation };
}

function causeOf(value: unknown): InvalidationCause | null | undefined {
  return value === null ? null : INVALIDATION_CAUSES.find((cause) => cause === value);
}
