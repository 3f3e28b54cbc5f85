// The command line as the tests type it: inside the process, with everything it prints kept.
import { systemClock } from '../../src/base/clock.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import type { Surroundings } from '../../src/cli/dispatch.ts';

/** What came of a command. */
export interface CliOutcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `walcast WORD...`. */
export async function walcast(
  words: readonly string[],
  overrides: Partial<Surroundings> = {},
): Promise<CliOutcome> {
  let [out, err] = ['', ''];
  const code = await dispatch(words, COMMANDS, {
    env: {},
    workingDirectory: '/',
    clock: systemClock,
    print: (text) => (out += text),
    printError: (text) => (err += text),
    isTerminal: false,
    onSignal: () => () => {},
    useLog: () => {},
    ...overrides,
  });
  return { code, out, err };
}
