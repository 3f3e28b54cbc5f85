// Is a require_auth list one that libpq takes? Which methods does it leave?
// (src/interfaces/libpq/fe-connect.c: pqConnectOptions2)
import type { ConninfoError } from './conninfo-options.ts';

/** Methods of libpq. `none`: the server asks for nothing. */
const METHODS: readonly string[] = [
  'password',
  'md5',
  'gss',
  'sspi',
  'scram-sha-256',
  'oauth',
  'none',
];

/** Methods of libpq that walcast does not speak. */
const FOREIGN: readonly string[] = ['gss', 'sspi', 'oauth'];

/** What is wrong with a list that is not empty; null when nothing is. The first elements are libpq's errors, in its order. */
export function checkRequireAuth(text: string): ConninfoError | null {
  const seen = new Set<string>();
  const isNegated = text.startsWith('!');
  for (const part of text.split(',')) {
    const problem = checkMethod(part, isNegated, seen);
    if (problem !== null) return { error: problem, keyword: 'require_auth' };
  }
  const isUsable = isNegated || [...seen].some((method) => !FOREIGN.includes(method));
  if (isUsable) return null;
  return {
    error: `require_auth="${text}" leaves no method that walcast speaks (use "scram-sha-256", "none", "md5" or "password")`,
    keyword: 'require_auth',
  };
}

function checkMethod(part: string, isNegated: boolean, seen: Set<string>): string | null {
  if (part.startsWith('!') && !isNegated) {
    return `negative require_auth method "${part}" cannot be mixed with non-negative methods`;
  }
  if (!part.startsWith('!') && isNegated) {
    return `require_auth method "${part}" cannot be mixed with negative methods`;
  }
  const method = isNegated ? part.slice(1) : part;
  if (!METHODS.includes(method)) return `invalid require_auth value: "${method}"`;
  if (seen.has(method)) return `require_auth method "${part}" is specified more than once`;
  seen.add(method);
  return null;
}
