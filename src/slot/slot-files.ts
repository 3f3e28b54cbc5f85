// How are slots kept on disk? One directory a slot, `pg_replslot/NAME/state`, a checksummed text file. A slot is made
// under `NAME.tmp` and renamed, and renamed back before it is removed, so a crash leaves it whole or not at all.
// (src/backend/replication/slot.c: CreateSlotOnDisk, ReplicationSlotDropPtr, StartupReplicationSlots)
// Room for another file is not needed to save a state: on a full disk the file is renamed to a name that says it
// (`slot-state-name.ts`). What a slot gives up is what makes room there.
import { readdir, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createDirectory, syncDirectory } from '../base/durable-fs.ts';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { formatLsn, parseLsn } from '../pg/lsn.ts';
import { checkSlotName } from './slot-name.ts';
import { nameOfState, stateOfName } from './slot-state-name.ts';
import { INVALIDATION_CAUSES } from './slot.ts';
import type { InvalidationCause, PersistentSlot } from './slot.ts';

/** Version 1 had no `invalidated`: nothing was ever lost. Version 2 had no `xmin` and `catalog_xmin`: nothing was ever held. */
const KIND: StateFileKind = { magic: 'walcast-slot', version: 3, oldestVersion: 1 };
/** The digits of a full transaction id: less than 2^64. */
const FULL_XID = /^\d{1,20}$/;
const STATE_FILE = 'state';
const TEMPORARY_SUFFIX = '.tmp';

/** The directory of all slots. Two operations on one slot must not overlap. */
export class SlotFiles {
  readonly #directory: string;
  /** Slots whose directory may hold a file that says a state by its name. */
  readonly #named = new Set<string>();

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
    await this.#renameDurably(temporary, this.#path(slot.name));
  }

  /** Replaces the state of an existing slot, also on a full disk; durable when it resolves. */
  async save(slot: PersistentSlot): Promise<void> {
    try {
      await saveStateFile(join(this.#path(slot.name), STATE_FILE), KIND, encode(slot));
    } catch (error) {
      const code = systemErrorCode(error);
      if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
      await this.#saveInName(slot);
      return;
    }
    if (this.#named.has(slot.name)) await this.#removeNamed(slot.name);
  }

  /** Durable when it resolves. */
  async remove(name: string): Promise<void> {
    const temporary = this.#path(name + TEMPORARY_SUFFIX);
    await this.#renameDurably(this.#path(name), temporary);
    this.#named.delete(name);
    // The slot is gone. What cannot be removed now is removed at the next start, or when one is made of that name.
    await rm(temporary, { recursive: true }).catch(() => {});
  }

  /** Who is told of an error finds what was there before: as far as the disk allows, for it may refuse that, too. */
  async #renameDurably(from: string, to: string): Promise<void> {
    await rename(from, to);
    try {
      await syncDirectory(this.#directory);
    } catch (error) {
      await rename(to, from).catch(() => {});
      throw error;
    }
  }

  /** The file `state`, where there is one, is newer than every name. So at most one name may be left when it goes. */
  async #saveInName(slot: PersistentSlot): Promise<void> {
    const directory = this.#path(slot.name);
    const names = await readdir(directory);
    const isStateThere = names.includes(STATE_FILE);
    if (isStateThere) await this.#removeNamed(slot.name);
    const from = isStateThere ? STATE_FILE : names.find((name) => stateOfName(name) !== null);
    if (from === undefined) throw this.#damaged(slot.name);
    this.#named.add(slot.name);
    await rename(join(directory, from), join(directory, nameOfState(slot)));
    await syncDirectory(directory);
  }

  async #removeNamed(name: string): Promise<void> {
    const directory = this.#path(name);
    const old = (await readdir(directory)).filter((entry) => stateOfName(entry) !== null);
    for (const entry of old) await unlink(join(directory, entry));
    if (old.length > 0) await syncDirectory(directory);
    this.#named.delete(name);
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }

  async #read(name: string): Promise<PersistentSlot> {
    const directory = this.#path(name);
    const named = (await readdir(directory)).map(stateOfName).filter((found) => found !== null);
    if (named.length > 0) this.#named.add(name);
    const state = await loadStateFile(join(directory, STATE_FILE), KIND);
    const slot = state === null ? (named[0] ?? null) : decode(state.body);
    if (slot !== null && (state !== null || named.length === 1)) return { name, ...slot };
    throw this.#damaged(name);
  }

  #damaged(name: string): OperationalError {
    return new OperationalError(
      'SLOT_DAMAGED',
      `the state of replication slot "${name}" in "${join(this.#path(name), STATE_FILE)}" cannot be read`,
      {
        hint:
          'Nothing was changed. Remove the directory of this slot by hand if its standby can do without the WAL it kept, ' +
          'and create the slot anew.',
      },
    );
  }
}

function encode(slot: PersistentSlot): Record<string, string | null> {
  return {
    name: slot.name,
    restart_lsn: formatLsn(slot.restartLsn),
    invalidated: slot.invalidation,
    xmin: slot.xmin?.toString() ?? null,
    catalog_xmin: slot.catalogXmin?.toString() ?? null,
  };
}

function decode(body: unknown): Omit<PersistentSlot, 'name'> | null {
  if (typeof body !== 'object' || body === null || !('restart_lsn' in body)) return null;
  const restartLsn = typeof body.restart_lsn === 'string' ? parseLsn(body.restart_lsn) : null;
  const invalidation = 'invalidated' in body ? causeOf(body.invalidated) : null;
  const xmin = 'xmin' in body ? xidOf(body.xmin) : null;
  const catalogXmin = 'catalog_xmin' in body ? xidOf(body.catalog_xmin) : null;
  if (restartLsn === null || invalidation === undefined) return null;
  if (xmin === undefined || catalogXmin === undefined) return null;
  return { restartLsn, invalidation, xmin, catalogXmin };
}

function xidOf(value: unknown): bigint | null | undefined {
  if (value === null) return null;
  if (typeof value !== 'string' || !FULL_XID.test(value)) return undefined;
  const xid = BigInt(value);
  return BigInt.asUintN(64, xid) === xid ? xid : undefined;
}

function causeOf(value: unknown): InvalidationCause | null | undefined {
  return value === null ? null : INVALIDATION_CAUSES.find((cause) => cause === value);
}
