// What was said upstream last about rows that standbys need, kept over a restart: `walcast.feedback`. What is said is never
// older or more than what the file says, so a start knows at least what an upstream's slot may hold because of us.
import { join } from 'node:path';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { isSameXmins, NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';
import { FEEDBACK_FILE_NAME } from '../wal/data-directory.ts';

const KIND: StateFileKind = { magic: 'walcast-feedback', version: 1 };

/** The digits of a full transaction id. */
const FULL_XID = /^\d{1,20}$/;

/** The file of one relay. */
export class FeedbackNote {
  readonly #path: string;
  readonly #log: Log;
  #saved: Xmins = NO_XMINS;
  #wanted: Xmins = NO_XMINS;
  #saving: Promise<void> | null = null;
  #isFailing = false;
  #isClosed = false;

  /** `directory`: walcast's data directory. */
  constructor(directory: string, log: Log) {
    this.#path = join(directory, FEEDBACK_FILE_NAME);
    this.#log = log;
  }

  /** What an earlier process said last; a file that cannot be read is told of and taken for none. */
  async load(): Promise<Xmins> {
    try {
      const content = await loadStateFile(this.#path, KIND);
      this.#saved = content === null ? NO_XMINS : decode(content.body);
    } catch (error) {
      if (!(error instanceof OperationalError) && systemErrorCode(error) === null) throw error;
      this.#log.warn(
        `what was fed back upstream before this start is not known, so it may be lifted before standbys are back: ${errorText(error)}`,
      );
    }
    this.#wanted = this.#saved;
    return this.#saved;
  }

  /** What is on the disk. */
  get saved(): Xmins {
    return this.#saved;
  }

  /**
   * Resolves when `xmins`, or what was noted after it, is on the disk, or could not be put there: then `saved` stays, and what a crash
   * would forget is held all the same.
   */
  async save(xmins: Xmins): Promise<void> {
    if (this.#isClosed) return;
    this.#wanted = xmins;
    this.#saving ??= this.#saveWanted();
    await this.#saving;
  }

  /** Nothing is written any more but what is being written; resolves when that is over. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving;
  }

  async #saveWanted(): Promise<void> {
    while (!isSameXmins(this.#wanted, this.#saved)) {
      const xmins = this.#wanted;
      try {
        await saveStateFile(this.#path, KIND, encode(xmins));
        this.#saved = xmins;
        this.#isFailing = false;
      } catch (error) {
        if (!this.#isFailing) {
          this.#log.warn(
            'what is fed back upstream could not be noted; after a crash it may be lifted before standbys are back',
            { error: errorText(error) },
          );
        }
        this.#isFailing = true;
        break;
      }
    }
    this.#saving = null;
  }
}

function encode({ xmin, catalogXmin }: Xmins): Record<string, string | null> {
  return { xmin: xmin?.toString() ?? null, catalog_xmin: catalogXmin?.toString() ?? null };
}

function decode(body: unknown): Xmins {
  const fields = new Map<string, unknown>(
    typeof body === 'object' && body !== null ? Object.entries(body) : [],
  );
  return { xmin: xidOf(fields.get('xmin')), catalogXmin: xidOf(fields.get('catalog_xmin')) };
}

function xidOf(value: unknown): bigint | null {
  if (typeof value !== 'string' || !FULL_XID.test(value)) return null;
  return BigInt.asUintN(64, BigInt(value));
}
