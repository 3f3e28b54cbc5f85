// `walcast check` and `walcast init` as a user types them, inside this process.
import { systemClock } from '../../src/base/clock.ts';
import type { Finding, FindingCode } from '../../src/check/finding.ts';
import { checkCommand } from '../../src/cli/check.ts';
import type { Command } from '../../src/cli/command.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import type { Surroundings } from '../../src/cli/dispatch.ts';

/** How a command ended and what it printed. */
export interface CommandEnd {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A check's answer. */
export interface CheckEnd {
  readonly code: number;
  readonly findings: readonly Finding[];
  /** The only finding of that code; throws when there is none or more. */
  readonly one: (code: FindingCode) => Finding;
  /** Codes of the findings that are not in order, sorted. */
  readonly problems: readonly string[];
}

/** Runs one command of `table`. */
export async function typeCommand(
  words: readonly string[],
  table: readonly Command[],
  overrides: Partial<Surroundings> = {},
): Promise<CommandEnd> {
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

/** `walcast check --deep --json` with further words. */
export async function checkDeep(
  words: readonly string[],
  overrides: Partial<Surroundings> = {},
): Promise<CheckEnd> {
  const end = await typeCommand(['check', '--deep', '--json', ...words], [checkCommand], overrides);
  if (end.out === '') throw new Error(`no answer: ${end.err}`);
  const { findings }: { findings: Finding[] } = JSON.parse(end.out);
  return {
    code: end.code,
    findings,
    one: (code) => {
      const found = findings.filter((finding) => finding.code === code);
      const [first] = found;
      if (first === undefined || found.length > 1)
        throw new Error(`${found.length} findings ${code} in ${end.out}`);
      return first;
    },
    problems: findings
      .filter(({ severity }) => severity !== 'ok')
      .map(({ code }) => code)
      .toSorted(),
  };
}
