// What does the answer of `auth_query` say about a user? Values as text, by position: name, secret, valid until, may replicate.
import { readPasswordSecret } from '../pg/password-secret.ts';
import type { UserAnswer } from './user-directory.ts';

/** The rows an `auth_query` came back with; null is SQL's NULL. */
export interface UserRows {
  /** Number of columns. */
  readonly columns: number;
  readonly rows: readonly (readonly (string | null)[])[];
  /** The server has no answer about this name, though it has answered: why, without any value. */
  readonly problem?: string;
}

/** A user that was found, or that there is none. */
export type KnownAnswer = Exclude<UserAnswer, { readonly kind: 'unavailable' }>;

/** `2026-11-23 04:05:06.789+00`, with more digits of the year where it has them, and seconds in the offset of old zones. (DateStyle ISO) */
const TIMESTAMP =
  /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?( BC)?$/;

/**
 * Reads the answer about `name`; `problem` says what is wrong with it, for the log, without repeating any value. An answer
 * about somebody else is a problem, too: a query without its WHERE would else let everybody in as the first user.
 */
export function readUserRows(
  name: string,
  { columns, rows, problem }: UserRows,
): KnownAnswer | { readonly problem: string } {
  if (problem !== undefined) return { problem };
  if (columns < 2 || columns > 4) {
    return {
      problem: `it has ${columns} columns instead of name, secret, valid until, may replicate`,
    };
  }
  const [row] = rows;
  // A function that returns one row whatever it found says so with NULLs.
  if (row === undefined || isNothing(rows)) return { kind: 'unknown', isSure: true };
  if (rows.length > 1) return { problem: 'it has more than one row' };
  const [found = null, secretText = null, validUntil = null, mayReplicate = null] = row;
  if (found !== name) return { problem: 'its first column is not the name that was asked for' };
  const secret = secretText === null ? null : readPasswordSecret(secretText);
  if (secret !== null && 'problem' in secret) return secret;
  const validUntilMs = readValidUntil(validUntil);
  if (validUntilMs === undefined) {
    return { problem: 'its third column is no timestamp with time zone' };
  }
  const may = readBoolean(mayReplicate);
  if (may === undefined) return { problem: 'its fourth column is no boolean' };
  return { kind: 'found', secret, validUntilMs, mayReplicate: may };
}

function isNothing(rows: UserRows['rows']): boolean {
  return rows.length === 1 && rows.every((row) => row.every((value) => value === null));
}

/** Milliseconds since the Unix epoch, rounded down; null for NULL, undefined for what is no timestamp. */
function readValidUntil(text: string | null): number | null | undefined {
  if (text === null) return null;
  if (text === 'infinity') return Number.POSITIVE_INFINITY;
  if (text === '-infinity') return Number.NEGATIVE_INFINITY;
  const match = TIMESTAMP.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map(Number);
  // Before the year 1 everything has expired.
  if (match[12] !== undefined) return Number.NEGATIVE_INFINITY;
  const sign = match[8] === '-' ? -1 : 1;
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(9, 12).map((part) => Number(part ?? 0));
  const offsetMs = sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000;
  const milliseconds = Number((match[7] ?? '').padEnd(3, '0').slice(0, 3));
  const at = new Date(0);
  at.setUTCFullYear(year, month - 1, day);
  at.setUTCHours(hour, minute, second, milliseconds);
  // PostgreSQL's time ends later than that of the runtime.
  return Number.isNaN(at.getTime()) ? Number.POSITIVE_INFINITY : at.getTime() - offsetMs;
}

/** Null for NULL, undefined for what is no boolean. */
function readBoolean(text: string | null): boolean | null | undefined {
  switch (text) {
    case null:
      return null;
    case 't':
    case 'true':
      return true;
    case 'f':
    case 'false':
      return false;
    default:
      return undefined;
  }
}
