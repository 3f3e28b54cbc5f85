// Which authentication requests of an upstream are answered: libpq's require_auth, with a stricter default.
import { OperationalError } from '../base/errors.ts';

/** What a server may ask for, in libpq's words; `none` = it asks for nothing. */
export const AUTH_METHODS = ['none', 'password', 'md5', 'scram-sha-256'] as const;
export type AuthMethod = (typeof AUTH_METHODS)[number];

/** Methods of libpq that this walcast does not speak; they may be named, and are then never used. */
const FOREIGN_METHODS: readonly string[] = ['gss', 'sspi', 'oauth'];

/**
 * The methods `requireAuth` allows. Without it: SCRAM and no authentication. A password in clear text, or as MD5, is
 * given away to whoever listens or plays the server, so both must be named (`password`, `md5`); `!` only takes away.
 * Throws {@link OperationalError} for a list that libpq would refuse (fe-connect.c:pqConnectOptions2).
 */
export function allowedAuthMethods(requireAuth: string | null): ReadonlySet<AuthMethod> {
  const names = (requireAuth ?? '').split(',').map((name) => name.trim());
  if (names.length === 1 && names[0] === '') return new Set<AuthMethod>(['none', 'scram-sha-256']);
  const isNegated = names.every((name) => name.startsWith('!'));
  if (!isNegated && names.some((name) => name.startsWith('!'))) {
    throw invalid(requireAuth, 'methods with and without "!" cannot be mixed');
  }
  const allowed = new Set<AuthMethod>(isNegated ? ['none', 'scram-sha-256'] : []);
  for (const name of names) {
    const bare = isNegated ? name.slice(1) : name;
    const method = AUTH_METHODS.find((known) => known === bare);
    if (method === undefined && !FOREIGN_METHODS.includes(bare)) {
      throw invalid(requireAuth, `"${bare.slice(0, 40)}" is no authentication method`);
    }
    if (method === undefined) continue;
    if (isNegated) allowed.delete(method);
    else allowed.add(method);
  }
  return allowed;
}

function invalid(value: string | null, why: string): OperationalError {
  return new OperationalError(
    'INVALID_REQUIRE_AUTH',
    `invalid require_auth value "${value}": ${why}`,
    {
      hint: 'Name methods out of none, password, md5, scram-sha-256, separated by commas.',
    },
  );
}
