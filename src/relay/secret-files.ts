// When has a file that holds a secret changed? Looked at by name and now and then: a name may be a link that is swapped, as
// Kubernetes does, and no notification of a file system tells that everywhere.
import { stat } from 'node:fs/promises';
import type { Clock, Timer } from '../base/clock.ts';
import { systemErrorCode } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { filePlace, isSwapped } from '../config/file-place.ts';
import type { FilePlace } from '../config/file-place.ts';
import { SECRET_FILES_LOOK_MS } from '../config/limits.ts';
import { RetryLooks } from './retry-looks.ts';

/** The keys whose files count as soon as they change. What they hold is all that changes then. */
export const SECRET_FILE_KEYS = [
  'auth.users_file',
  'http.token_file',
  'http.wal_token_file',
  'upstream.conninfo_file',
] as const;

/** One of these keys. */
export type SecretFileKey = (typeof SECRET_FILE_KEYS)[number];

/** Absolute names of the files with secrets that a configuration was read from. */
export function secretFileNames({ namedFiles }: Pick<Config, 'namedFiles'>): readonly string[] {
  return SECRET_FILE_KEYS.flatMap((key) => namedFiles.get(key) ?? []);
}

/** What is watched, and who is told. */
export interface SecretFilesParts {
  /** Names of the files that are in use now. */
  readonly names: () => readonly string[];
  /** Where they led when what is in effect was read. */
  readonly places: () => ReadonlyMap<string, FilePlace>;
  /**
   * Something may have changed. Resolves to false when it could not be taken: then it is asked for again, at intervals.
   * Never rejects for what stands in files.
   */
  readonly onChanged: () => Promise<boolean>;
  readonly clock: Clock;
}

/** The configuration was read at most so long before the watch was made. */
const READING_MS_MAX = 10_000;

/** A pipe from the first look on: it was read once, which is all that can be had of it, and nothing more is asked of it. */
const PIPE = 'a pipe';

/** The watch over the files of one relay. */
export class SecretFiles {
  readonly #parts: SecretFilesParts;
  readonly #seen = new Map<string, string>();
  /** Links that lead elsewhere than in {@link SecretFilesParts.places}, as they were looked at last. */
  #swapped = '';
  /** About when the configuration was read first. (Unix milliseconds) */
  readonly #sinceMs: number;
  #timer: Timer | null = null;
  #isStopped = false;
  #isTaken = true;
  readonly #retries = new RetryLooks();

  constructor(parts: SecretFilesParts) {
    this.#parts = parts;
    this.#sinceMs = parts.clock.wallMs() - READING_MS_MAX;
  }

  /** Begins, or goes on after the configuration has named other files. */
  watch(): void {
    if (this.#timer !== null || this.#isStopped || this.#parts.names().length === 0) return;
    this.#timer = this.#parts.clock.setTimer(SECRET_FILES_LOOK_MS, () => void this.#look());
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #look(): Promise<void> {
    const names = this.#parts.names();
    for (const name of this.#seen.keys()) {
      if (!names.includes(name)) this.#seen.delete(name);
    }
    let isChanged = false;
    for (const name of names) {
      const seen = this.#seen.get(name);
      const { text, isPipe, changedAtMs } = await lookAt(name);
      if (this.#isStopped) return;
      if (seen === PIPE || seen === text) continue;
      const isRead = seen === undefined && isPipe;
      this.#seen.set(name, isRead ? PIPE : text);
      // What changed between the reading of the configuration and the first look is seen as a change, too.
      const isNews = seen !== undefined || changedAtMs >= this.#sinceMs;
      isChanged ||= isNews && !isRead;
    }
    if (await this.#isSwappedAnew(names)) isChanged = true;
    if (this.#isStopped) return;
    if (isChanged) this.#retries.reset();
    if (isChanged || (!this.#isTaken && this.#retries.isDue())) await this.#take();
    this.#timer = null;
    this.watch();
  }

  /**
   * What a link led to at the last look may not be what was read: it was swapped before the first look, or there and back with a
   * reload in between.
   */
  async #isSwappedAnew(names: readonly string[]): Promise<boolean> {
    const places = this.#parts.places();
    const swapped: string[] = [];
    for (const name of names) {
      const before = places.get(name);
      if (before === undefined || this.#seen.get(name) === PIPE) continue;
      const now = await filePlace(name);
      if (isSwapped(name, before, now)) swapped.push(name, String(now.file));
    }
    const what = swapped.join('\0');
    const isNews = what !== '' && what !== this.#swapped;
    this.#swapped = what;
    return isNews;
  }

  async #take(): Promise<void> {
    this.#isTaken = await this.#parts.onChanged();
    if (!this.#isTaken) this.#retries.refused();
  }
}

interface Look {
  /** The same as long as the file is. */
  readonly text: string;
  readonly isPipe: boolean;
  readonly changedAtMs: number;
}

async function lookAt(name: string): Promise<Look> {
  try {
    const info = await stat(name, { bigint: true });
    const changedAtMs = Number(info.ctimeMs);
    const { dev, ino, size, mode, uid, mtimeNs, ctimeNs } = info;
    const text = [dev, ino, size, mode, uid, mtimeNs, ctimeNs].join(' ');
    return { text, isPipe: info.isFIFO() || info.isCharacterDevice(), changedAtMs };
  } catch (error) {
    // It was there when it was read.
    const text = systemErrorCode(error) ?? 'unreadable';
    return { text, isPipe: false, changedAtMs: Number.POSITIVE_INFINITY };
  }
}
