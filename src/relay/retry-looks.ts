// When is something that was refused tried again, by somebody who looks now and then? Less and less often.
import { CONFIG_FILES_RETRY_LOOKS_MAX } from '../config/limits.ts';

/** Of one thing that is tried. Pure. */
export class RetryLooks {
  #wait = 0;
  #nextWait = 0;

  /** True when it is to be tried at this look; asked once a look. */
  isDue(): boolean {
    if (this.#wait === 0) return true;
    this.#wait -= 1;
    return false;
  }

  /** It was tried in vain. */
  refused(): void {
    this.#wait = this.#nextWait;
    this.#nextWait = Math.min(2 * this.#wait + 1, CONFIG_FILES_RETRY_LOOKS_MAX);
  }

  /** There is something new to try, or nothing any more. */
  reset(): void {
    this.#wait = 0;
    this.#nextWait = 0;
  }
}
