// Can anybody log in by the access rules, and is it hard enough for everybody else? Pure: a configuration in, findings out.
import type { Config } from '../config/config.ts';
import type { HbaRule } from '../pg/hba.ts';
import { coversRule } from '../pg/hba-coverage.ts';
import type { PasswordSecret } from '../pg/password-secret.ts';
import { okFinding, warningFinding } from './finding.ts';
import type { Finding } from './finding.ts';

/** Everything there is to say of rules, users and TLS; nothing without rules. */
export function authFindings(config: Config): Finding[] {
  const rules = config.hba?.rules.rules ?? [];
  if (rules.length === 0) return [];
  const found = [
    ...rules.flatMap((rule, index) => [
      ...unreachable(rule, rules.slice(0, index)),
      ...withoutTls(rule, config),
      ...withoutSecrets(rule, config.auth),
      ...weakMethod(rule),
    ]),
    ...weakSecrets(config.auth.users),
    ...clearText(config),
  ];
  if (found.length > 0) return found;
  const message = `${count(rules.length, 'rule')}, ${count(config.auth.users.size, 'user')} with a secret`;
  return [okFinding('auth.rules', { subject: 'auth.hba', message })];
}

/** A rule below another one that takes everybody it means. */
function unreachable(rule: HbaRule, before: readonly HbaRule[]): Finding[] {
  const cover = before.find((other) => coversRule(other, rule));
  if (cover === undefined) return [];
  return [
    warningFinding('auth.unreachable', {
      subject: placeOf(rule),
      message: `no connection comes to this rule: line ${cover.line} takes all of them (${cover.text})`,
      fix: 'Put it above that line, or remove it',
    }),
  ];
}

/** In words of PostgreSQL where it has any. */
function withoutTls(rule: HbaRule, { listen }: Config): Finding[] {
  if (rule.type !== 'hostssl') return [];
  const secure = listen.flatMap((address) => (address.kind === 'tcp' ? (address.tls ?? []) : []));
  if (secure.length === 0) {
    return [
      warningFinding('auth.hostssl', {
        subject: placeOf(rule),
        message: 'hostssl record cannot match because SSL is disabled',
        fix: 'Give an address of listen tls: {cert: …, key: …}',
      }),
    ];
  }
  if (rule.clientCert === null || secure.some(({ clientCert }) => clientCert !== 'none')) return [];
  return [
    warningFinding('auth.client_cert', {
      subject: placeOf(rule),
      message: 'it lets in who shows a client certificate only, and nobody is asked for one',
      fix: 'Give tls of the address in listen the authorities: ca: FILE',
    }),
  ];
}

function withoutSecrets(rule: HbaRule, { users, query }: Config['auth']): Finding[] {
  const { method } = rule;
  if ((method !== 'scram-sha-256' && method !== 'md5') || query !== null) return [];
  const fix =
    'Add a line to auth.users_file, made by: walcast scram --user NAME; or give auth.auth_query';
  if (users.size === 0) {
    const message = `it asks for a password (${method}), and there is no user with a secret: nobody is let in`;
    return [warningFinding('auth.no_secret', { subject: placeOf(rule), message, fix })];
  }
  const missing = plainNames(rule).filter((name) => !canLogIn(users.get(name), method));
  if (missing.length === 0) return [];
  const names = missing.map((name) => `"${name}"`).join(', ');
  const what = missing.some((name) => users.has(name))
    ? 'no SCRAM secret, but an md5 one, which method scram-sha-256 does not take'
    : 'no secret';
  const message = `it asks for a password (${method}), and there is ${what} for ${names}`;
  return [warningFinding('auth.no_secret', { subject: placeOf(rule), message, fix })];
}

function canLogIn(secret: PasswordSecret | undefined, method: string): boolean {
  return secret !== undefined && (method === 'md5' || secret.kind !== 'md5');
}

/** Names that are written out. */
function plainNames({ users }: HbaRule): string[] {
  return users
    .filter(({ text, isQuoted, pattern }) => pattern === null && (isQuoted || text !== 'all'))
    .map(({ text }) => text);
}

function weakMethod(rule: HbaRule): Finding[] {
  if (rule.method !== 'md5') return [];
  return [
    warningFinding('auth.md5', {
      subject: placeOf(rule),
      message:
        'md5 is broken, and deprecated in PostgreSQL: who sees a hash or a login can find the password',
      fix: 'Give the users SCRAM secrets (walcast scram), then write scram-sha-256',
    }),
  ];
}

function weakSecrets(users: ReadonlyMap<string, PasswordSecret>): Finding[] {
  const names = [...users].filter(([, { kind }]) => kind === 'md5').map(([name]) => name);
  if (names.length === 0) return [];
  return [
    warningFinding('auth.md5', {
      subject: 'auth.users',
      message: `${count(names.length, 'user')} with an md5 secret, the first is "${names[0] ?? ''}"; who has such a secret logs in with it`,
      fix: 'Make a SCRAM secret: walcast scram --user NAME',
    }),
  ];
}

/** Whoever is on the way reads all WAL of a standby that streams from an address without TLS. */
function clearText({ listen, hba }: Config): Finding[] {
  const isOpen = (hba?.rules.rules ?? []).some(
    (rule) =>
      (rule.type === 'host' || rule.type === 'hostnossl') &&
      rule.method !== 'reject' &&
      !isForThisMachine(rule),
  );
  if (!isOpen) return [];
  return listen.flatMap((address) => {
    if (address.kind === 'unix' || address.tls !== null || LOOPBACK_HOST.test(address.host))
      return [];
    return [
      warningFinding('listen.clear_text', {
        subject: `${address.host}:${address.port}`,
        message: 'no TLS is offered here: all WAL crosses the network without encryption',
        fix: 'Give it tls: {cert: …, key: …} and write hostssl in the rules, or keep the link inside a trusted network',
      }),
    ];
  });
}

const LOOPBACK_HOST = /^(?:127\.[\d.]+|::1|localhost)$/;

function isForThisMachine({ address }: HbaRule): boolean {
  if (address === null || address.kind === 'samehost') return true;
  if (address.kind === 'name') return LOOPBACK_HOST.test(address.name);
  if (address.kind !== 'network') return false;
  const { mask, address: bytes } = address.network;
  if (bytes.length === 4) return bytes[0] === 127 && mask[0] === 0xff;
  return mask.every((bits) => bits === 0xff) && Buffer.from(bytes).equals(LOOPBACK_V6);
}

const LOOPBACK_V6 = Buffer.from('00000000000000000000000000000001', 'hex');

function placeOf({ source, line }: HbaRule): string {
  return `${source}, line ${line}`;
}

function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? '' : 's'}`;
}
