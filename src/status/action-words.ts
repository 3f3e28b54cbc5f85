// What an action is refused with in the same words wherever it was asked for, over HTTP or on the console.

/** A reload that comes too late. */
export const RELOAD_WHILE_ENDING: Words = {
  message: 'the configuration is not read again, because walcast is draining',
  hint: 'What the file says takes effect at the next start.',
};

/** A reload that comes too early. */
export const RELOAD_WHILE_STARTING: Words = {
  message: 'the configuration is not read again, because walcast is still starting',
  hint: 'Ask again when it has started.',
};

/** A reload of a configuration with mistakes; these are told beside it. */
export const RELOAD_MISTAKEN: Words = {
  message: 'the configuration was not changed, because it has mistakes',
  hint: 'Correct them and reload again.',
};

/** There is no session of a standby with that pid, as it was written. */
export function noStandbyWith(pid: string): string {
  return `no standby has pid ${pid}`;
}

interface Words {
  readonly message: string;
  readonly hint: string;
}
