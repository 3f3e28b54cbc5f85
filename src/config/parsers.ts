// The thin call into the parsers of connection strings and access rules: what they say, in configuration's words.
import { parseConninfo } from '../pg/conninfo.ts';
import type { Conninfo } from '../pg/conninfo.ts';
import { parseHba } from '../pg/hba.ts';
import type { HbaError, HbaRules } from '../pg/hba.ts';

/** Access rules and what is allowed in them but dangerous; or what is wrong, by line counted from 1 within the rules. */
export type HbaCheck =
  | { readonly rules: HbaRules; readonly warnings: readonly string[] }
  | { readonly errors: readonly HbaError[] };

/** Reads a libpq connection string; the message is libpq's own. */
export function checkConninfo(text: string): { server: Conninfo } | { problem: string } {
  if (text.trim() === '') return { problem: 'is empty' };
  const parsed = parseConninfo(text);
  return 'error' in parsed ? { problem: `cannot be read: ${parsed.error}` } : { server: parsed };
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
