// The thin call into the parsers of connection strings, access rules and names of synchronous standbys: what they say, in
// configuration's words.
import { parseConninfo } from '../pg/conninfo.ts';
import type { Conninfo } from '../pg/conninfo.ts';
import { parseHba } from '../pg/hba.ts';
import type { HbaError, HbaOrigin, HbaRules } from '../pg/hba.ts';
import { parseSynchronousStandbyNames, SyncNamesError } from '../syncrep/standby-names.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';

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

/** Reads access rules. */
export function checkHba(text: string, origin: HbaOrigin): HbaCheck {
  const parsed = parseHba(text, origin);
  if (!('rules' in parsed)) return { errors: parsed };
  const trusting = parsed.rules.filter(
    ({ type, method }) => type !== 'local' && method === 'trust',
  );
  const warnings = trusting
    .slice(0, TRUST_WARNINGS_MAX)
    .map(
      ({ source, line, text: rule }) =>
        `${source}, line ${line}: "trust" lets anybody who reaches the TCP port receive all WAL: ${rule}`,
    );
  const more = trusting.length - warnings.length;
  if (more > 0)
    warnings.push(`${more} more rules let anybody in who reaches the TCP port ("trust")`);
  return { rules: parsed, warnings };
}

/** Rules that are warned about one by one. */
const TRUST_WARNINGS_MAX = 20;

/** A policy and what is allowed in it but should be looked at; or PostgreSQL's words about it, message and detail. */
export type SyncNamesCheck =
  | { readonly policy: SyncPolicy | null; readonly warning: string | null }
  | { readonly problem: string; readonly detail: string | null };

/** Reads a text of synchronous_standby_names. */
export function checkSyncNames(text: string): SyncNamesCheck {
  try {
    const policy = parseSynchronousStandbyNames(text);
    return { policy, warning: policy === null ? null : tooFewNames(policy) };
  } catch (error) {
    if (!(error instanceof SyncNamesError)) throw error;
    return {
      problem: named(shorten(error.message)),
      detail: error.detail === null ? null : shorten(error.detail),
    };
  }
}

function named(problem: string): string {
  const key = 'synchronous_standby_names';
  return problem.includes(key) ? problem : `\`${key}\`: ${problem}`;
}

/** A text may hold anything, at any length, and a message is one line. */
function shorten(message: string): string {
  const line = message.replaceAll(/\p{Cc}+/gu, ' ');
  return line.length <= SHOWN_LENGTH_MAX ? line : `${line.slice(0, SHOWN_LENGTH_MAX)}…"`;
}

const SHOWN_LENGTH_MAX = 200;

/** What PostgreSQL's documentation warns of: commits would wait until several standbys share a name. */
function tooFewNames({ required, names, text }: SyncPolicy): string | null {
  const different = new Set(names.map((name) => name.toLowerCase()));
  if (required <= different.size || different.has('*')) return null;
  return `synchronous_standby_names = '${shorten(text)}' asks for ${required} standbys and names ${different.size}: commits wait until standbys share a name`;
}
