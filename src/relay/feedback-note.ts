// What was said upstream last about rows that standbys need, and who needs them without a slot that would remember it, kept
// over a restart: `walcast.feedback`. What is said is never older or more than what the file says, so a start knows at least what an
// upstream may hold because of us.
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { isSameXmins, NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';
import { FEEDBACK_FILE_NAME } from '../wal/data-directory.ts';

/** What is noted. */
export interface FeedbackNoted {
  readonly xmins: Xmins;
  /** application_names of those who hold something without a slot, sorted, one for each; null when that is not known. */
  readonly standbys: readonly string[] | null;
}

/** Nothing was said, so nobody has to come back. */
export const NOTHING_NOTED: FeedbackNoted = { xmins: NO_XMINS, standbys: [] };

const KIND: StateFileKind = { magic: 'walcast-feedback', version: 1 };

/** The digits of a full transaction id. */
const FULL_XID = /^\d{1,20}$/;

/** The file of one relay. */
export class FeedbackNote {
  readonly #path: string;
  readonly #log: Log;
  #saved: FeedbackNoted = NOTHING_NOTED;
  #wanted: FeedbackNoted = NOTHING_NOTED;
  #saving: Promise<void> | null = null;
  #isFailing = false;
  #isClosed = false;

  /** `directory`: walcast's data directory. */
  constructor(directory: string, log: Log) {
    this.#path = join(directory, FEEDBACK_FILE_NAME);
    this.#log = log;
  }

  /** What an earlier process noted last; of a file that cannot be read, which is told of, only that there was something. */
  async load(): Promise<FeedbackNoted> {
    try {
      const content = await loadStateFile(this.#path, KIND);
      this.#saved = content === null ? NOTHING_NOTED : decode(content.body);
    } catch (error) {
      if (!(error instanceof OperationalError) && systemErrorCode(error) === null) throw error;
      this.#log.warn(
        `what was fed back upstream before this start is not known, so it may be lifted before standbys are back: ${errorText(error)}`,
      );
      this.#saved = { xmins: NO_XMINS, standbys: null };
    }
    this.#wanted = this.#saved;
    return this.#saved;
  }

  /** What is on the disk. */
  get saved(): FeedbackNoted {
    return this.#saved;
  }

  /** What was to be saved last: on the disk, on its way there, or refused by it. */
  get wanted(): FeedbackNoted {
    return this.#wanted;
  }

  /**
   * Resolves when `noted`, or what came after it, is on the disk, or could not be put there: then `saved` stays, and what a crash
   * would forget is held all the same.
   */
  async save(noted: FeedbackNoted): Promise<void> {
    if (this.#isClosed) return;
    this.#wanted = noted;
    // Else that would be over before it counts as begun, and never begin again.
    if (this.#saving === null && isSame(noted, this.#saved)) return;
    this.#saving ??= this.#saveWanted();
    await this.#saving;
  }

  /** Nothing is written any more but what is being written; resolves when that is over. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving;
  }

  async #saveWanted(): Promise<void> {
    while (!isSame(this.#wanted, this.#saved)) {
      const noted = this.#wanted;
      try {
        await saveStateFile(this.#path, KIND, encode(noted));
        this.#saved = noted;
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

/** True when both note the same. */
export function isSame(a: FeedbackNoted, b: FeedbackNoted): boolean {
  return isSameXmins(a.xmins, b.xmins) && isDeepStrictEqual(a.standbys, b.standbys);
}

function encode({ xmins, standbys }: FeedbackNoted): Record<string, unknown> {
  const { xmin, catalogXmin } = xmins;
  return {
    xmin: xmin?.toString() ?? null,
    catalog_xmin: catalogXmin?.toString() ?? null,
    standbys,
  };
}

function decode(body: unknown): FeedbackNoted {
  const fields = new Map<string, unknown>(
    typeof body === 'object' && body !== null ? Object.entries(body) : [],
  );
  const standbys = fields.get('standbys');
  const isList = Array.isArray(standbys) && standbys.every((name) => typeof name === 'string');
  const xmins = { xmin: xidOf(fields.get('xmin')), catalogXmin: xidOf(fields.get('catalog_xmin')) };
  return { xmins, standbys: isList ? standbys : null };
}

function xidOf(value: unknown): bigint | null {
  if (typeof value !== 'string' || !FULL_XID.test(value)) return null;
  return BigInt.asUintN(64, BigInt(value));
}
