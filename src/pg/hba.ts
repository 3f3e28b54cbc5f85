// Who may connect? Rules in the words of pg_hba.conf, first match wins. (src/backend/libpq/hba.c:check_hba)
import { matchesHostName } from './hba-address.ts';
import { tokenizeHba } from './hba-includes.ts';
import type { RuleFiles } from './hba-includes.ts';
import { PatternBudget, readLines } from './hba-reading.ts';
import type { HbaError } from './hba-reading.ts';
import { parseHbaLine } from './hba-line.ts';
import type { HbaRule } from './hba-rule.ts';
import { isKeyword, matchesName, matchesUser } from './hba-words.ts';
import type { HbaWord } from './hba-words.ts';
import { isInNetwork, parseIpAddress } from './ip-address.ts';
import type { IpAddress } from './ip-address.ts';

export type { HbaError } from './hba-reading.ts';
export { HBA_METHODS } from './hba-rule.ts';
export type {
  HbaAddress,
  HbaClientCert,
  HbaClientName,
  HbaConnectionType,
  HbaMethod,
  HbaRule,
} from './hba-rule.ts';

/** All rules, in order. */
export interface HbaRules {
  readonly rules: readonly HbaRule[];
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

/** Looks names up for rules with names of hosts. Both bounded in time and number; they never reject. */
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

/** Where the text of rules is from. Without `files` naming another file is a mistake. */
export interface HbaOrigin {
  readonly source?: string;
  readonly files?: RuleFiles;
}

/** Reads the rules. When any line is wrong, the wrong lines are returned instead, in the order in which they are read. */
export function parseHba(
  text: string,
  { source = '', files }: HbaOrigin = {},
): HbaRules | readonly HbaError[] {
  const rules: HbaRule[] = [];
  const budget = new PatternBudget();
  const errors = readLines(tokenizeHba(text, source, files), (line) => {
    const parsed = parseHbaLine(line);
    if ('problem' in parsed) return parsed.problem;
    rules.push(parsed);
    return budget.spend([...parsed.databases, ...parsed.users]);
  });
  return errors.length > 0 ? errors : { rules };
}

/**
 * The first rule that matches, or null: then nobody was meant, and the connection is refused. A promise only when a name
 * has to be looked up before it is known; it never rejects. (check_hba, check_hostname)
 */
export function findHbaRule(
  { rules }: HbaRules,
  connection: HbaConnection,
  { localAddresses, names }: HbaSurroundings,
): HbaRule | null | Promise<HbaRule | null> {
  const peer = connection.address === null ? null : withoutZone(connection.address);
  const address = peer === null ? null : parseIpAddress(peer);
  const isOurs = nearness(address, localAddresses);
  const named: HbaRule[] = [];
  for (const rule of rules) {
    if (!mayMatch(rule, address, isOurs) || !matchesConnection(rule, connection)) continue;
    const isCertain = rule.address?.kind !== 'name' || connection.address === null;
    if (isCertain && named.length === 0) return rule;
    named.push(rule);
    if (isCertain) break;
  }
  if (named.length === 0 || peer === null) return null;
  return decideByName(named, peer, names);
}

/** On which link an `fe80::1%eth0` is does not count. (pg_range_sockaddr, ipv6eq) */
function withoutZone(address: string): string {
  return address.replace(/%.*$/s, '');
}

/** Of `candidates` only the last one may be a rule without a name. */
async function decideByName(
  candidates: readonly HbaRule[],
  address: string,
  names: HostNames,
): Promise<HbaRule | null> {
  const name = await names.nameOf(address);
  let isOurs: boolean | null = null;
  for (const rule of candidates) {
    if (rule.address?.kind !== 'name') return rule;
    // A client whose name does not lead back to it has none: it may have been made up by who owns the address.
    if (name === null || isOurs === false || !matchesHostName(rule.address.name, name)) continue;
    isOurs ??= (await names.addressesOf(name)).some((own) => isSameAddress(own, address));
    if (isOurs) return rule;
  }
  return null;
}

function isSameAddress(a: string, b: string): boolean {
  const [left, right] = [parseIpAddress(withoutZone(a)), parseIpAddress(withoutZone(b))];
  return left !== null && right !== null && Buffer.compare(left, right) === 0;
}

function matchesConnection(rule: HbaRule, connection: HbaConnection): boolean {
  return (
    matchesType(rule, connection) &&
    rule.databases.some((word) => matchesDatabase(word, connection)) &&
    rule.users.some((word) => matchesUser(word, connection.user))
  );
}

function matchesType(rule: HbaRule, connection: HbaConnection): boolean {
  if (rule.type === 'local' || connection.isLocal) {
    return rule.type === 'local' && connection.isLocal;
  }
  if (rule.type === 'hostssl') return connection.isEncrypted;
  if (rule.type === 'hostnossl') return !connection.isEncrypted;
  return true;
}

type Nearness = (kind: 'samehost' | 'samenet') => boolean;

/** Of a name of a host it is not known yet. */
function mayMatch(rule: HbaRule, address: IpAddress | null, isOurs: Nearness): boolean {
  if (rule.address === null) return true;
  if (address === null) return false;
  const { kind } = rule.address;
  if (kind === 'all' || kind === 'name') return true;
  return kind === 'network' ? isInNetwork(address, rule.address.network) : isOurs(kind);
}

/** Is an address one of this machine, or in one of its networks? Found out once, however many rules ask. */
function nearness(address: IpAddress | null, localAddresses: readonly LocalAddress[]): Nearness {
  const known = new Map<string, boolean>();
  return (kind) => {
    const found =
      known.get(kind) ??
      localAddresses.some((local) => {
        const own = parseIpAddress(local.address);
        if (own === null || address === null) return false;
        const mask = kind === 'samehost' ? wholeMask(own) : networkMask(local, own);
        return isInNetwork(address, { address: own, mask });
      });
    known.set(kind, found);
    return found;
  };
}

function wholeMask({ length }: IpAddress): IpAddress {
  return new Uint8Array(length).fill(0xff);
}

/** An interface without a mask, or with an empty one, has no network but itself. (ifaddr.c:run_ifaddr_callback) */
function networkMask({ netmask }: LocalAddress, own: IpAddress): IpAddress {
  const mask = parseIpAddress(netmask);
  return mask === null || mask.every((bits) => bits === 0) ? wholeMask(own) : mask;
}

/** (check_db) */
function matchesDatabase(word: HbaWord, connection: HbaConnection): boolean {
  if (connection.isReplication) return isKeyword(word, 'replication');
  if (isKeyword(word, 'all')) return true;
  if (isKeyword(word, 'sameuser')) return connection.database === connection.user;
  return !isKeyword(word, 'replication') && matchesName(word, connection.database);
}
