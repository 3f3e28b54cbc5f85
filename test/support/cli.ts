// The command line as the tests type it: inside the process, with everything it prints kept.
import { systemClock } from '../../src/base/clock.ts';
import type { Command } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import type { Surroundings } from '../../src/cli/dispatch.ts';

/** How a command ended and what it printed. */
export interface CliOutcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `walcast WORD...` with the commands of `table`, by default all. */
export async function walcast(
  words: readonly string[],
  { table = COMMANDS, ...overrides }: Partial<Surroundings> & { table?: readonly Command[] } = {},
): Promise<CliOutcome> {
  let [out, err] = ['', ''];
  const code = await dispatch(words, table, {
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
