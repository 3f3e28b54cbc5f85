// Every bound of reading the configuration again: how often is looked and read, and how much is told.

/** A configuration is taken at a reload once two readings this far apart say the same: an editor may be writing it. */
export const RELOAD_SETTLE_MS: number = 50;

/** Readings of one reload; it is refused when no two in a row say the same. */
export const RELOAD_READINGS_MAX: number = 20;

/** How often is looked where the names of the configuration's files lead: a link may have been swapped. */
export const CONFIG_FILES_LOOK_MS: number = 2_000;

/** Looks that go by at most before a swapped file that was refused is tried again. */
export const CONFIG_FILES_RETRY_LOOKS_MAX: number = 15;

/** Mistakes of a refused reload that the status keeps, and characters of each. */
export const RELOAD_PROBLEMS_SHOWN_MAX: number = 20;
export const RELOAD_PROBLEM_LENGTH_MAX: number = 500;
