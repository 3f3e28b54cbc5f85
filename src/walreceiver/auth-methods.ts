// Which authentication requests of an upstream are answered: libpq's require_auth, with a stricter default.
import { OperationalError } from '../base/errors.ts';

/** What a server may ask for, in libpq's words; `none` = it asks for nothing. */
export const AUTH_METHODS = ['none', 'password', 'md5', 'scram-sha-256'] as const;
export type AuthMethod = (typeof AUTH_METHODS)[number];

/** Methods of libpq that this walcast does not speak; they may be named, and are then never used. */
const FOREIGN_METHODS: readonly string[] = ['gss', 'sspi', 'oauth'];

/** What is answered without require_auth. */
const DEFAULT_METHODS: readonly AuthMethod[] = ['none', 'scram-sha-256'];

/**
 * The methods `requireAuth` allows. Without it: SCRAM and no authentication. A password in clear text, or as MD5, is
 * given away to whoever listens or plays the server, so both must be named (`password`, `md5`); `!` only takes away.
 * Throws {@link OperationalError} for a list that libpq would refuse, with its words. (fe-connect.c:pqConnectOptions2)
 */
export function allowedAuthMethods(requireAuth: string | null): ReadonlySet<AuthMethod> {
  if (requireAuth === null || requireAuth === '') return new Set(DEFAULT_METHODS);
  const names = requireAuth.split(',');
  const isNegated = requireAuth.startsWith('!');
  const named = new Set<string>();
  for (const name of names) {
    const bare = name.startsWith('!') ? name.slice(1) : name;
    const shown = name.slice(0, SHOWN_CHARACTERS_MAX);
    if (!isNegated && name.startsWith('!')) {
      throw invalid(
        `negative require_auth method "${shown}" cannot be mixed with non-negative methods`,
      );
    }
    if (isNegated && !name.startsWith('!')) {
      throw invalid(`require_auth method "${shown}" cannot be mixed with negative methods`);
    }
    if (!isKnown(bare))
      throw invalid(`invalid require_auth value: "${bare.slice(0, SHOWN_CHARACTERS_MAX)}"`);
    if (named.has(bare))
      throw invalid(`require_auth method "${shown}" is specified more than once`);
    named.add(bare);
  }
  const methods: readonly AuthMethod[] = isNegated ? DEFAULT_METHODS : AUTH_METHODS;
  return new Set(methods.filter((method) => named.has(method) !== isNegated));
}

const SHOWN_CHARACTERS_MAX = 40;

function isKnown(name: string): boolean {
  return AUTH_METHODS.some((method) => method === name) || FOREIGN_METHODS.includes(name);
}

function invalid(message: string): OperationalError {
  return new OperationalError('INVALID_REQUIRE_AUTH', message, {
    hint: 'Name methods out of none, password, md5, scram-sha-256 in require_auth, separated by commas without spaces.',
  });
}
