// The thin call into the parsers of connection strings and access rules: what they say, in configuration's words.
import { parseHba } from '../pg/hba.ts';
import type { HbaError, HbaRules } from '../pg/hba.ts';

/** What a connection string says that configuration cares about, or why it cannot be read. */
export type ConninfoCheck =
  | { readonly applicationName: string | null; readonly warnings: readonly string[] }
  | { readonly problem: string; readonly hint?: string };

/** Access rules and what is allowed in them but dangerous; or what is wrong, by line counted from 1 within the rules. */
export type HbaCheck =
  | { readonly rules: HbaRules; readonly warnings: readonly string[] }
  | { readonly errors: readonly HbaError[] };

/** Tries to read a libpq connection string. */
export function checkConninfo(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): ConninfoCheck {
  void env;
  return text.trim() === '' ? { problem: 'is empty' } : { applicationName: null, warnings: [] };
}

/** Reads access rules; `source` names them in warnings. */
export function checkHba(text: string, source: string): HbaCheck {
  const parsed = parseHba(text);
  if (!('rules' in parsed)) return { errors: parsed };
  const trusting = parsed.rules.filter(
    ({ type, method }) => type !== 'local' && method === 'trust',
  );
  const warnings = trusting.map(
    ({ line, text: rule }) =>
      `${source}, line ${line}: "trust" lets anybody who reaches the TCP port receive all WAL: ${rule}`,
  );
  return { rules: parsed, warnings };
}
