// `walcast check --deep` as a user types it, with its findings read.
import type { Finding, FindingCode } from '../../src/check/finding.ts';
import type { Surroundings } from '../../src/cli/dispatch.ts';
import { walcast } from './cli.ts';

/** A check's answer. */
export interface CheckEnd {
  readonly code: number;
  readonly findings: readonly Finding[];
  /** The only finding of that code; throws when there is none or more. */
  readonly one: (code: FindingCode) => Finding;
  /** Codes of the findings that are not in order, sorted. */
  readonly problems: readonly string[];
}

/** `walcast check --deep --json` with further words. */
export async function checkDeep(
  words: readonly string[],
  overrides: Partial<Surroundings> = {},
): Promise<CheckEnd> {
  const end = await walcast(['check', '--deep', '--json', ...words], overrides);
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
