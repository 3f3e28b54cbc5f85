// Was a file of the configuration in effect swapped behind its name? Looked at now and then: no notification of a file system
// tells that everywhere. It remembers nothing of its own: what is compared is where the names led when they were read.
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { filePlace, isSwapped } from '../config/file-place.ts';
import type { FilePlace } from '../config/file-place.ts';
import { CONFIG_FILES_LOOK_MS } from '../config/limits.ts';
import { RetryLooks } from './retry-looks.ts';
import { secretFileNames } from './secret-files.ts';

/** Where the files of a configuration lay when it was read, without those with secrets, which count by themselves. */
export function watchedPlaces(
  config: Pick<Config, 'namedFiles' | 'places'>,
): ReadonlyMap<string, FilePlace> {
  const places = new Map(config.places);
  for (const name of secretFileNames(config)) places.delete(name);
  return places;
}

/** What is watched, and who is told. */
export interface ConfigFilesParts {
  /** Absolute names of the files that the configuration in effect was read from, and where they led then. */
  readonly places: () => ReadonlyMap<string, FilePlace>;
  /** The configuration that was read last was refused. */
  readonly isRefused: () => boolean;
  /**
   * Reads the configuration again. False when it was refused: then it is asked for again, at intervals, until it is taken. Null
   * when it could not be read now. Never rejects for what stands in files.
   */
  readonly onSwapped: () => Promise<boolean | null>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The watch over the files of one relay. */
export class ConfigFiles {
  readonly #parts: ConfigFilesParts;
  #timer: Timer | null = null;
  #isStopped = false;
  /** A swapped configuration was refused. Swapped back, it leads where it led, and is good again all the same. */
  #isOwed = false;
  /** What was swapped when it was looked last; empty for nothing. */
  #swapped = '';
  readonly #retries = new RetryLooks();

  constructor(parts: ConfigFilesParts) {
    this.#parts = parts;
  }

  /** Begins, or goes on after a configuration has named other files. */
  watch(): void {
    if (this.#timer !== null || this.#isStopped || this.#parts.places().size === 0) return;
    this.#timer = this.#parts.clock.setTimer(CONFIG_FILES_LOOK_MS, () => void this.#look());
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #look(): Promise<void> {
    const swapped = await this.#allSwapped();
    if (this.#isStopped) return;
    const what = JSON.stringify(swapped);
    if (what !== this.#swapped) this.#begin(swapped);
    this.#swapped = what;
    // Somebody may have asked meanwhile, and had it.
    this.#isOwed &&= this.#parts.isRefused();
    if (swapped.length > 0 || this.#isOwed) await this.#try();
    this.#timer = null;
    this.watch();
  }

  async #allSwapped(): Promise<readonly Swapped[]> {
    const found: Swapped[] = [];
    for (const [name, before] of this.#parts.places()) {
      const now = await filePlace(name);
      if (isSwapped(name, before, now)) found.push({ name, now });
    }
    return found;
  }

  /** Another swap than that of before, or none any more. */
  #begin([first]: readonly Swapped[]): void {
    this.#retries.reset();
    if (first === undefined) return;
    const { name, now } = first;
    this.#parts.log.info('a file of the configuration was swapped, reading it again', {
      file: name,
      now: now.file,
    });
  }

  /** What is refused is tried at longer and longer intervals: reading many users takes a while in which nothing else runs. */
  async #try(): Promise<void> {
    if (!this.#retries.isDue()) return;
    const isTaken = await this.#parts.onSwapped();
    if (isTaken === null) return;
    this.#isOwed = !isTaken;
    if (!isTaken) this.#retries.refused();
  }
}

interface Swapped {
  readonly name: string;
  readonly now: FilePlace;
}
