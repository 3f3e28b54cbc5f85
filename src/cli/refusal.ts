// What did a walcast refuse, and why? Read from its problem details (RFC 9457).
import { OperationalError } from '../base/errors.ts';
import type { JsonAnswer } from './http-client.ts';
import { printable } from './plain-text.ts';

/** How the type of every problem begins that is a walcast's. */
const PROBLEM_URN = 'urn:walcast:problem:';

/** True for an answer in which a walcast says why it refuses; that there is no such path says nearly everybody. */
export function isRefusal({ body }: JsonAnswer): boolean {
  const hasType = typeof body === 'object' && body !== null && 'type' in body;
  const type = hasType ? String(body.type) : '';
  return type.startsWith(PROBLEM_URN) && type !== `${PROBLEM_URN}not-found`;
}

/**
 * The refusal in an answer that is no success, as one OperationalError: `SHUTTING_DOWN` from a walcast that is about to be
 * gone, else `REFUSED`.
 */
export function refusalOf(answer: JsonAnswer): OperationalError {
  const fields = new Map<string, unknown>(
    typeof answer.body === 'object' && answer.body !== null ? Object.entries(answer.body) : [],
  );
  const text = (name: string): string | null => {
    const value = fields.get(name);
    return typeof value === 'string' && value !== '' ? printable(value) : null;
  };
  const sqlstate = text('sqlstate');
  const message = text('detail') ?? text('title') ?? `walcast answered ${answer.status}`;
  // How to send a token is of no use to who types a command.
  const told = answer.status === 401 ? null : text('hint');
  const hint = [problemsIn(fields), told ?? defaultHint(answer.status)].filter(
    (part) => part !== null,
  );
  return new OperationalError(
    fields.get('type') === `${PROBLEM_URN}shutting-down` ? 'SHUTTING_DOWN' : 'REFUSED',
    `${message.replace(/\.$/, '')}${sqlstate === null ? '' : ` (SQLSTATE ${sqlstate})`}`,
    hint.length === 0 ? {} : { hint: hint.join(' ') },
  );
}

/** Mistakes of a configuration, one after the other; null where there are none. */
function problemsIn(fields: ReadonlyMap<string, unknown>): string | null {
  const problems: unknown = fields.get('problems');
  const lines = Array.isArray(problems) ? problems : [];
  return lines.length === 0 ? null : printable(lines.map(String).join('; '));
}

function defaultHint(status: number): string | null {
  switch (status) {
    case 401:
    case 403:
      return 'Give its token with --token-file: that of http.token_file, or for WAL files that of http.wal_token_file.';
    case 404:
      return 'Is --url the HTTP port of a walcast of this version?';
    default:
      return null;
  }
}
