// Who may connect? Rules in the words of pg_hba.conf, first match wins. (src/backend/libpq/hba.c)
import { tokenizeHba } from './hba-tokens.ts';
import type { HbaField, HbaLine, HbaToken } from './hba-tokens.ts';
import { isInNetwork, parseIpAddress, prefixMask } from './ip-address.ts';
import type { IpAddress, IpNetwork } from './ip-address.ts';

/** Methods that are carried out, as they are written. */
export const HBA_METHODS = ['trust', 'reject', 'scram-sha-256', 'md5', 'cert'] as const;
export type HbaMethod = (typeof HBA_METHODS)[number];

/** `clientcert`: what of a client certificate is asked for beside the method. */
export type HbaClientCert = 'verify-ca' | 'verify-full';

/** `clientname`: which part of the subject is the name of the client. */
export type HbaClientName = 'CN' | 'DN';

/** First word of a rule. */
export type HbaConnectionType = 'local' | 'host' | 'hostssl' | 'hostnossl';

/** Third word of a `host` rule. */
export type HbaAddress =
  | { readonly kind: 'all' }
  | { readonly kind: 'samehost' }
  | { readonly kind: 'samenet' }
  | { readonly kind: 'network'; readonly network: IpNetwork };

/** One rule. */
export interface HbaRule {
  /** Line of the file, from 1. */
  readonly line: number;
  /** The line as written, without surrounding space. */
  readonly text: string;
  readonly type: HbaConnectionType;
  readonly databases: readonly HbaToken[];
  readonly users: readonly HbaToken[];
  /** Null for `local`. */
  readonly address: HbaAddress | null;
  readonly method: HbaMethod;
  /** Null: none is asked for. `verify-full` with method `cert`, always. */
  readonly clientCert: HbaClientCert | null;
  readonly clientName: HbaClientName;
  /** Name of the map of names (pg_ident.conf); null: names have to be the same. */
  readonly map: string | null;
}

/** All rules, in order. */
export interface HbaRules {
  readonly rules: readonly HbaRule[];
}

/** What is wrong with one line. */
export interface HbaError {
  readonly line: number;
  readonly text: string;
  readonly message: string;
}

/** A connection that asks for admission. */
export interface HbaConnection {
  /** Over a Unix socket. */
  readonly isLocal: boolean;
  readonly isEncrypted: boolean;
  /** Numeric address of the peer; null when local. */
  readonly address: string | null;
  readonly user: string;
  readonly database: string;
  /** A physical replication connection: only the word `replication` matches it, `all` does not. */
  readonly isReplication: boolean;
}

/** An address of this machine with its network, for `samehost` and `samenet`. */
export interface LocalAddress {
  readonly address: string;
  readonly netmask: string;
}

const CONNECTION_TYPES: readonly string[] = ['local', 'host', 'hostssl', 'hostnossl'];

const METHODS: readonly string[] = HBA_METHODS;

/** Methods that PostgreSQL knows and we do not carry out. */
const OTHER_METHODS: readonly string[] = [
  'password',
  'gss',
  'sspi',
  'ident',
  'peer',
  'ldap',
  'radius',
  'pam',
  'bsd',
  'oauth',
];

/** Reads the rules. When any line is wrong, every wrong line is returned instead, in file order. */
export function parseHba(text: string): HbaRules | readonly HbaError[] {
  const rules: HbaRule[] = [];
  const errors: HbaError[] = [];
  for (const line of tokenizeHba(text)) {
    const parsed = parseLine(line);
    if (typeof parsed === 'string') {
      errors.push({ line: line.number, text: line.text, message: parsed });
    } else {
      rules.push(parsed);
    }
  }
  return errors.length > 0 ? errors : { rules };
}

/** The first rule that matches, or null: then nobody was meant, and the connection is refused. (check_hba) */
export function matchHba(
  rules: HbaRules,
  connection: HbaConnection,
  localAddresses: readonly LocalAddress[],
): HbaRule | null {
  const address = connection.address === null ? null : parseIpAddress(connection.address);
  const matching = rules.rules.find(
    (rule) =>
      matchesType(rule, connection) &&
      matchesAddress(rule, address, localAddresses) &&
      rule.databases.some((word) => matchesDatabase(word, connection)) &&
      rule.users.some((word) => isKeyword(word, 'all') || word.text === connection.user),
  );
  return matching ?? null;
}

/** Looks names up for rules with host names. Both bounded in time and number; never reject. */
export interface HostNames {
  /** The name of a numeric address; null when it has none or nobody answers. */
  nameOf(address: string): Promise<string | null>;
  /** Numeric addresses of a name; none when nobody answers. */
  addressesOf(name: string): Promise<readonly string[]>;
}

/** What rules are looked at with. */
export interface HbaSurroundings {
  readonly localAddresses: readonly LocalAddress[];
  readonly names: HostNames;
}

/**
 * As {@link matchHba}, with names of hosts: a promise only when a name has to be looked up before it is known which rule
 * decides. The promise never rejects.
 */
export function findHbaRule(
  rules: HbaRules,
  connection: HbaConnection,
  { localAddresses }: HbaSurroundings,
): HbaRule | null | Promise<HbaRule | null> {
  return matchHba(rules, connection, localAddresses);
}

function parseLine(line: HbaLine): HbaRule | string {
  if (line.isUnterminated) return 'a quote is opened and never closed';
  const fields = line.fields.slice();
  const type = readConnectionType(fields.shift());
  if ('problem' in type) return type.problem;
  const databases = fields.shift();
  if (databases === undefined) return 'end-of-line before database specification';
  const users = fields.shift();
  if (users === undefined) return 'end-of-line before role specification';
  const wordProblem = findWordProblem(databases, users);
  if (wordProblem !== null) return wordProblem;
  let address: HbaAddress | null = null;
  if (type.type !== 'local') {
    const read = readAddress(fields);
    if (typeof read === 'string') return read;
    address = read;
  }
  const method = readMethod(fields);
  if ('problem' in method) return method.problem;
  return {
    line: line.number,
    text: line.text,
    type: type.type,
    databases,
    users,
    address,
    method: method.method,
    clientCert: method.method === 'cert' ? 'verify-full' : null,
    clientName: 'CN',
    map: null,
  };
}

function readConnectionType(
  field: HbaField | undefined,
): { type: HbaConnectionType } | { problem: string } {
  const word = field?.[0]?.text ?? '';
  if (field !== undefined && field.length > 1) {
    return { problem: 'multiple values specified for connection type' };
  }
  if (isConnectionType(word)) return { type: word };
  if (word === 'hostgssenc' || word === 'hostnogssenc') {
    return {
      problem: `connection type "${word}" cannot be used: GSSAPI encryption is not offered`,
    };
  }
  if (word.startsWith('include') || word.startsWith('@')) {
    return { problem: `"${word}" is not supported by this version yet: write the lines here` };
  }
  return { problem: `invalid connection type "${word}"` };
}

function findWordProblem(databases: HbaField, users: HbaField): string | null {
  for (const word of [...databases, ...users]) {
    if (word.isQuoted) continue;
    if (word.text.startsWith('@')) {
      return `file "${word.text}" is not supported by this version yet: write the names here`;
    }
    if (word.text.startsWith('/')) {
      return `regular expression "${word.text}" is not supported by this version yet`;
    }
  }
  const group = databases.find((word) => !word.isQuoted && /^same(role|group)$/.test(word.text));
  if (group !== undefined) return `"${group.text}" cannot be used: walcast knows no role members`;
  const role = users.find((word) => !word.isQuoted && word.text.startsWith('+'));
  return role === undefined ? null : `"${role.text}" cannot be used: walcast knows no role members`;
}

/** Takes the address, and the mask where it is a field of its own, off `fields`. */
function readAddress(fields: HbaField[]): HbaAddress | string {
  const field = fields.shift();
  const word = field?.[0];
  if (field === undefined || word === undefined) {
    return 'end-of-line before IP address specification';
  }
  if (field.length > 1) return 'multiple values specified for host address';
  if (isKeyword(word, 'all')) return { kind: 'all' };
  if (isKeyword(word, 'samehost')) return { kind: 'samehost' };
  if (isKeyword(word, 'samenet')) return { kind: 'samenet' };
  const [addressText = '', prefixText, ...rest] = word.text.split('/');
  const address = parseIpAddress(addressText);
  if (address === null || rest.length > 0) return addressProblem(word.text);
  return prefixText === undefined
    ? readMask(fields, address)
    : readPrefix(word.text, address, prefixText);
}

function addressProblem(text: string): string {
  return /^[A-Za-z.]/.test(text) && !text.includes(':')
    ? `host name "${text}" is not supported by this version yet: write an address`
    : `invalid IP address "${text}"`;
}

function readPrefix(text: string, address: IpAddress, prefixText: string): HbaAddress | string {
  const mask = /^\d{1,3}$/.test(prefixText) ? prefixMask(Number(prefixText), address.length) : null;
  if (mask === null) return `invalid CIDR mask in address "${text}"`;
  return { kind: 'network', network: { address, mask } };
}

function readMask(fields: HbaField[], address: IpAddress): HbaAddress | string {
  const field = fields.shift();
  if (field === undefined) return 'end-of-line before netmask specification';
  if (field.length > 1) return 'multiple values specified for netmask';
  const text = field[0]?.text ?? '';
  const mask = parseIpAddress(text);
  if (mask === null) return `invalid IP mask "${text}"`;
  if (mask.length !== address.length) return 'IP address and mask do not match';
  return { kind: 'network', network: { address, mask } };
}

function readMethod(fields: HbaField[]): { method: HbaMethod } | { problem: string } {
  const field = fields.shift();
  if (field === undefined) return { problem: 'end-of-line before authentication method' };
  if (field.length > 1) return { problem: 'multiple values specified for authentication type' };
  const word = field[0]?.text ?? '';
  if (OTHER_METHODS.includes(word)) {
    return { problem: `authentication method "${word}" is not supported by this version yet` };
  }
  if (!isMethod(word)) return { problem: `invalid authentication method "${word}"` };
  const option = fields.shift()?.[0]?.text;
  if (option !== undefined) {
    return { problem: `authentication option "${option}" is not supported by this version yet` };
  }
  return { method: word };
}

function matchesType(rule: HbaRule, connection: HbaConnection): boolean {
  if (rule.type === 'local' || connection.isLocal) {
    return rule.type === 'local' && connection.isLocal;
  }
  if (rule.type === 'hostssl') return connection.isEncrypted;
  if (rule.type === 'hostnossl') return !connection.isEncrypted;
  return true;
}

function matchesAddress(
  rule: HbaRule,
  address: IpAddress | null,
  localAddresses: readonly LocalAddress[],
): boolean {
  if (rule.address === null) return true;
  if (address === null) return false;
  const { kind } = rule.address;
  if (kind === 'all') return true;
  if (kind === 'network') return isInNetwork(address, rule.address.network);
  return localAddresses.some((local) => {
    const own = parseIpAddress(local.address);
    const mask = kind === 'samehost' ? prefixMask(address.length * 8, address.length) : null;
    const netmask = mask ?? parseIpAddress(local.netmask);
    return (
      own !== null && netmask !== null && isInNetwork(address, { address: own, mask: netmask })
    );
  });
}

function matchesDatabase(word: HbaToken, connection: HbaConnection): boolean {
  if (connection.isReplication) return isKeyword(word, 'replication');
  if (isKeyword(word, 'all')) return true;
  if (isKeyword(word, 'sameuser')) return connection.database === connection.user;
  return !isKeyword(word, 'replication') && word.text === connection.database;
}

function isKeyword(word: HbaToken, keyword: string): boolean {
  return !word.isQuoted && word.text === keyword;
}

function isConnectionType(word: string): word is HbaConnectionType {
  return CONNECTION_TYPES.includes(word);
}

function isMethod(word: string): word is HbaMethod {
  return METHODS.includes(word);
}
