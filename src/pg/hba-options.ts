// What do the words behind the method of a rule ask for? (hba.c:parse_hba_auth_opt)
import type { HbaClientCert, HbaClientName, HbaConnectionType, HbaMethod } from './hba-rule.ts';
import type { HbaField } from './hba-tokens.ts';

/** What can be asked for. */
export interface HbaOptions {
  readonly clientCert: HbaClientCert | null;
  readonly clientName: HbaClientName;
  readonly map: string | null;
}

/** Options of methods that are not carried out, with what PostgreSQL says that they are for. */
const OTHER_OPTIONS: ReadonlyMap<string, string> = new Map([
  ...['pamservice', 'pam_use_hostname'].map((name) => [name, 'pam'] as const),
  ...[
    'ldapurl',
    'ldaptls',
    'ldapscheme',
    'ldapserver',
    'ldapport',
    'ldapbinddn',
    'ldapbindpasswd',
    'ldapsearchattribute',
    'ldapsearchfilter',
    'ldapbasedn',
    'ldapprefix',
    'ldapsuffix',
  ].map((name) => [name, 'ldap'] as const),
  ...['krb_realm', 'include_realm'].map((name) => [name, 'gssapi and sspi'] as const),
  ...['compat_realm', 'upn_username'].map((name) => [name, 'sspi'] as const),
  ...['radiusservers', 'radiusports', 'radiussecrets', 'radiusidentifiers'].map(
    (name) => [name, 'radius'] as const,
  ),
  ...['issuer', 'scope', 'validator', 'delegate_ident_mapping'].map(
    (name) => [name, 'oauth'] as const,
  ),
]);

/** Reads what is left of the line. */
export function readOptions(
  fields: readonly HbaField[],
  rule: { readonly type: HbaConnectionType; readonly method: HbaMethod },
): HbaOptions | { readonly problem: string } {
  let options: HbaOptions = { clientCert: null, clientName: 'CN', map: null };
  for (const { text } of fields.flat()) {
    const equals = text.indexOf('=');
    if (equals < 0) {
      return { problem: `authentication option not in name=value format: ${text}` };
    }
    const read = readOption(text.slice(0, equals), text.slice(equals + 1), rule);
    if ('problem' in read) return read;
    options = { ...options, ...read };
  }
  return rule.method === 'cert' ? { ...options, clientCert: 'verify-full' } : options;
}

function readOption(
  name: string,
  value: string,
  rule: { readonly type: HbaConnectionType; readonly method: HbaMethod },
): Partial<HbaOptions> | { readonly problem: string } {
  if (name === 'map') {
    if (rule.method !== 'cert') {
      return onlyValidFor(name, 'ident, peer, gssapi, sspi, cert, and oauth');
    }
    return { map: value };
  }
  if ((name === 'clientcert' || name === 'clientname') && rule.type !== 'hostssl') {
    return { problem: `${name} can only be configured for "hostssl" rows` };
  }
  if (name === 'clientcert') return readClientCert(value, rule.method);
  if (name === 'clientname') {
    if (value === 'CN' || value === 'DN') return { clientName: value };
    return { problem: `invalid value for clientname: "${value}"` };
  }
  const methods = OTHER_OPTIONS.get(name);
  if (methods !== undefined) return onlyValidFor(name, methods);
  return { problem: `unrecognized authentication option name: "${name}"` };
}

function readClientCert(
  value: string,
  method: HbaMethod,
): Partial<HbaOptions> | { readonly problem: string } {
  if (value === 'verify-full') return { clientCert: value };
  if (value !== 'verify-ca') return { problem: `invalid value for clientcert: "${value}"` };
  if (method !== 'cert') return { clientCert: value };
  return {
    problem: 'clientcert can only be set to "verify-full" when using "cert" authentication',
  };
}

function onlyValidFor(name: string, methods: string): { readonly problem: string } {
  return {
    problem: `authentication option "${name}" is only valid for authentication methods ${methods}`,
  };
}
