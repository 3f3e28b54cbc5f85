// Does walcast take a connection string as libpq takes it? The libpq of PostgreSQL 18 is asked about several hundred of
// them: its complaint must be ours, and where it has none, it must go to the hosts that we would go to, as we would.
// WALCAST_TEST_SEED=n makes up other ones.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { completeOptions } from '../../src/pg/conninfo-defaults.ts';
import { conninfoOf, parseConninfo } from '../../src/pg/conninfo.ts';
import { CONNINFO_OPTIONS } from '../../src/pg/conninfo-options.ts';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { isUnixSocketPath, listOf, nonEmpty, parseInteger } from '../../src/pg/conninfo-values.ts';
import { processSurroundings, resolveUpstream } from '../../src/relay/upstream-address.ts';
import type { UpstreamRefusal, UpstreamResolution } from '../../src/relay/upstream-address.ts';
import { seededRandom } from '../harness/fault-proxy.ts';
import { needs } from '../support/requirements.ts';
import {
  ACCEPTED,
  COMBINATIONS,
  generatedStrings,
  OPTION_VALUES,
  SOURCE_FILES,
  SOURCES,
  SYNTAX_ERRORS,
  VALUE_ERRORS,
} from './conninfo-differential-strings.ts';
import { LibpqWitness, WITNESS_ERROR } from './conninfo-differential-witness.ts';
import type { Attempt, Testimony } from './conninfo-differential-witness.ts';

const SEED = Number(process.env['WALCAST_TEST_SEED'] ?? 18);
const GENERATED = 600;

/** What may be said about a host that does nothing but listen, or about a place where nobody listens. */
const HARMLESS: readonly RegExp[] = [
  /^$/,
  new RegExp(`^${WITNESS_ERROR}$`),
  /^connection to server (at|on socket) .* failed: (Connection refused|No such file or directory)$/,
  /^(Connection refused|No such file or directory|Cannot assign requested address)$/,
  /^(could not create socket: )?Address family not supported by protocol$/,
  /^\tIs the server running /,
  /^server does not support SSL, but SSL was required$/,
  /^SSL (error|SYSCALL error): (?!certificate)/,
  /^fe_sendauth: no password supplied$/,
  // Files of TLS are read when a server offers it.
  /^root certificate file ".*" does not exist$/,
  /^Either provide the file, use the system's trusted roots/,
];

/** Other spellings of a loopback address. */
const SPELLINGS: ReadonlyMap<string, string> = new Map([
  ['127.1', '127.0.0.1'],
  ['0x7f000001', '127.0.0.1'],
  ['0177.0.0.1', '127.0.0.1'],
  ['2130706433', '127.0.0.1'],
]);

/** A refusal for something that libpq can do. */
const OUR_OWN = /walcast|not supported on this platform/;

let witness: LibpqWitness | string = 'not opened';
let home = '';

function opened(): LibpqWitness {
  if (typeof witness === 'string') throw new Error(witness);
  return witness;
}

beforeAll(async () => {
  witness = await LibpqWitness.open();
  if (typeof witness === 'string') return;
  home = join(witness.directory, 'home');
  for (const name of ['home', 'system']) mkdirSync(join(witness.directory, name));
  for (const [name, text] of Object.entries(SOURCE_FILES)) witness.file(name, fillIn(text));
  witness.file('wide', '*:*:*:*:too many may read this', 0o644);
});
afterAll(async () => {
  if (typeof witness !== 'string') await witness[Symbol.asyncDispose]();
});
beforeEach((context) => {
  needs(context, typeof witness === 'string' ? witness : null);
});

interface Case {
  readonly conninfo: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly asksPassword?: boolean;
}

function fillIn(text: string): string {
  const { ports, directory } = opened();
  return text
    .replaceAll(/\{p([123])\}/g, (_, digit: string) => String(ports[Number(digit) - 1]))
    .replaceAll('{dir}', directory)
    .replaceAll('{udir}', encodeURIComponent(directory));
}

function environmentOf({ env = {} }: Case): Record<string, string> {
  const defaults = {
    HOME: home,
    PGHOST: '127.0.0.1',
    PGPORT: '{p1}',
    PGSYSCONFDIR: '{dir}/system',
  };
  return Object.fromEntries(
    Object.entries({ ...defaults, ...env }).map(([name, value]) => [name, fillIn(value)]),
  );
}

function ourView(
  conninfo: string,
  env: Readonly<Record<string, string>>,
): UpstreamResolution | UpstreamRefusal {
  const surroundings = processSurroundings(env);
  const parsed = parseConninfo(conninfo);
  if (!('error' in parsed)) return resolveUpstream(parsed, surroundings);
  const options = parseConninfoOptions(conninfo);
  if ('error' in options) return { error: options.error, hint: '' };
  // What is refused at once must be refused in its surroundings as well; there, another mistake may come first.
  const completed = completeOptions(options, surroundings);
  const meaning = 'error' in completed ? completed : conninfoOf(completed.options, 'complete');
  if ('error' in meaning) return { error: meaning.error, hint: '' };
  throw new Error(`${conninfo} was refused too early: ${parsed.error}`);
}

/** Complaints of libpq that are not about the servers it found. */
function complaints(stderr: string): string[] {
  return stderr
    .split('\n')
    .map((line) => line.replace(/^connection to server (?:at|on socket) .*? failed: /, ''))
    .filter((line) => !HARMLESS.some((pattern) => pattern.test(line)));
}

/** True when libpq would look up a name, or call at a place that is not ours; or when psql would not read the text at all. */
function leavesHome(conninfo: string, env: Readonly<Record<string, string>>): boolean {
  if (!/=|^postgres(?:ql)?:\/\//.test(conninfo)) return true;
  const options = parseConninfoOptions(conninfo);
  if ('error' in options) return false;
  const names = listOf(options.get('host') ?? env['PGHOST']);
  const addresses = listOf(options.get('hostaddr'));
  const ports = listOf(options.get('port') ?? env['PGPORT']);
  const isOurPort = (text: string): boolean => {
    const port = parseInteger(text === '' ? (env['PGPORT'] ?? '') : text) ?? 0;
    return port < 1 || port >= 65_535 || opened().ports.includes(port);
  };
  const isOurHost = (_: unknown, index: number): boolean => {
    const address = addresses[index] ?? '';
    const name = names[index] ?? '';
    return address === '' ? HOME_NAME.test(name) : !isForeignAddress(address);
  };
  const count = Math.max(names.length, addresses.length);
  return !ports.every(isOurPort) || !Array.from({ length: count }).every(isOurHost);
}

const HOME_NAME = /^(|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|localhost|[/@].*)$/;

/** A numeric address that is none of this machine's. */
function isForeignAddress(address: string): boolean {
  const isLoopback = SPELLINGS.has(address) || HOME_NAME.test(address);
  return !isLoopback && /^[\da-fx]*[.:][\da-fx.:%]*$/i.test(address) && !NO_ADDRESS.has(address);
}

/** Nearly numeric. */
const NO_ADDRESS: ReadonlySet<string> = new Set([
  '256.0.0.1',
  '127.0.0.1.1',
  '127.0.0.x',
  '127.0.0.08',
  '127.0.0.300',
  '::1::1',
]);

/** `place` for each host we would go to, as the witness notes it; a place where it does not listen is left out. */
function expectedPlaces({
  target,
  conninfo,
}: UpstreamResolution): { place: string; isTcp: boolean }[] {
  const { ports, directory, hasIpv6 } = opened();
  const names = listOf(conninfo.given.get('host'));
  const places = target.hosts.flatMap(({ address, port, password }, index) => {
    // libpq goes to its built-in socket directory where we go to localhost.
    const isDefault = (names[index] ?? '') === '' && conninfo.hosts[index]?.hostaddr === null;
    const isTcp = !isUnixSocketPath(address);
    const isListening = isTcp ? address !== '::1' || hasIpv6 : address === directory;
    const isHeard = ports.includes(port) && isListening && !isDefault;
    const place = `${SPELLINGS.get(address) ?? address}:${port}`;
    return isHeard ? [{ place, isTcp, password }] : [];
  });
  return target.targetSessionAttrs === 'prefer-standby' ? [...places, ...places] : places;
}

function expectedAttempts(ours: UpstreamResolution, asksPassword: boolean): Attempt[] {
  const { target, conninfo } = ours;
  const user = target.user;
  const given = conninfo.given;
  const startup = new Map([
    ['user', user],
    ['database', asksPassword ? 'replication' : (conninfo.database ?? user)],
    ...target.parameters,
    // psql has a fallback of its own.
    ['application_name', given.has('application_name') ? (conninfo.applicationName ?? '') : 'psql'],
  ]);
  const attempts: Attempt[] = [];
  for (const { place, isTcp } of expectedPlaces(ours)) {
    const isTls = isTcp && target.tls.mode !== 'disable' && target.tls.mode !== 'allow';
    const opening = !isTls ? 'plain' : target.tls.negotiation === 'direct' ? 'tls' : 'ssl-request';
    const isStrict = isTls && target.tls.mode !== 'prefer';
    const isUnverifiable = target.tls.mode.startsWith('verify') && target.tls.rootCert === null;
    // libpq reads the roots before it says anything.
    if (opening === 'tls' && isUnverifiable) break;
    const host = target.hosts.find((each) => `${each.address}:${each.port}` === place);
    const password = asksPassword && !isStrict ? (host?.password ?? null) : null;
    attempts.push({ place, opening, startup: isStrict ? null : startup, password });
    // A server without TLS, or one that asks for a password there is none for, ends the search.
    if (isStrict || (asksPassword && password === null)) break;
  }
  return attempts;
}

/** What can be compared: the parameters that a session needs, in one order. */
function comparable(attempts: readonly Attempt[], isShuffled: boolean): string[] {
  const lines = attempts.map(({ place, opening, startup, password }) => {
    const names = ['user', 'database', 'options', 'application_name'];
    const parameters = names.flatMap((name) => {
      const value = nonEmpty(startup?.get(name));
      return value === null ? [] : [`${name}=${value}`];
    });
    const where = place.replace(/^(?:::1|127\.0\.0\.1|localhost):/, 'here:');
    const said = startup === null ? 'nothing' : parameters.join(' ');
    return `${where} ${opening} ${said} ${password === null ? '' : `password=${password}`}`;
  });
  return isShuffled ? lines.toSorted() : lines;
}

/** What differs, in words; null when nothing does. */
function compare(
  ours: UpstreamResolution | UpstreamRefusal,
  { attempts, stderr }: Testimony,
  asksPassword: boolean,
): string | null {
  const theirs = complaints(stderr);
  if ('error' in ours) {
    // libpq reads connect_timeout when a connection is under way; without a socket to connect to it never does.
    const isUnread = ours.error.endsWith('"connect_timeout"') && stderr.includes('No such file');
    const said = isUnread || theirs.some((line) => isSameComplaint(ours.error, line));
    return said ? null : `we say: ${ours.error}\nlibpq: ${stderr}`;
  }
  const warned = theirs.filter((line) => line.startsWith('WARNING: '));
  const isWarningMissing = warned.some(
    (line) => !ours.warnings.includes(line.replace('WARNING: ', '')),
  );
  if (theirs.length > warned.length || isWarningMissing) return `we take it\nlibpq: ${stderr}`;
  const isShuffled = ours.target.loadBalanceHosts === 'random';
  const wanted = comparable(expectedAttempts(ours, asksPassword), isShuffled);
  // With sslmode=allow TLS is tried where plain text was refused.
  const isRetry = ({ opening }: Attempt): boolean =>
    ours.target.tls.mode === 'allow' && opening === 'ssl-request';
  const seen = comparable(
    attempts.filter((attempt) => !isRetry(attempt)),
    isShuffled,
  );
  const shownWanted = wanted.join('\n  ');
  const shownSeen = seen.join('\n  ');
  return shownWanted === shownSeen
    ? null
    : `we:\n  ${shownWanted}\nlibpq:\n  ${shownSeen}\n${stderr}`;
}

/** Ours may hide a secret, and add what to do. */
function isSameComplaint(said: string, theirs: string): boolean {
  const ours = said.replace(/behind "\w+" \(a value with blanks needs quotes\)$/, '"***"');
  const literal = ours.split('***').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (literal.length > 1) return new RegExp(`^${literal.join('.*')}$`).test(theirs);
  return theirs === ours || (theirs !== '' && ours.startsWith(`${theirs} (use `));
}

/** libpq's default is a Unix socket, which has no keepalives; ours is localhost. */
function isOfDefaultHost(error: string, conninfo: string): boolean {
  const options = parseConninfoOptions(conninfo);
  const hosts = 'error' in options ? [] : (options.get('host') ?? '-').split(',');
  return /"(?:keepalives|tcp_user_timeout)/.test(error) && hosts.includes('');
}

/** What the walreceiver of PostgreSQL makes of its primary_conninfo. (libpqwalreceiver.c:libpqrcv_connect) */
function asWalReceiver(conninfo: string): string {
  const isUri = conninfo.startsWith('postgres');
  const separator = isUri ? (conninfo.includes('?') ? '&' : '?') : ' ';
  return `${conninfo}${separator}dbname=replication`;
}

/** Every string is in one of the lists; those that differ, in two. */
interface Verdict {
  readonly differences: string[];
  readonly refused: string[];
  readonly taken: string[];
  readonly skipped: string[];
}

async function examine(cases: readonly Case[]): Promise<Verdict> {
  const verdict: Verdict = { differences: [], refused: [], taken: [], skipped: [] };
  for (const each of cases) {
    const conninfo = fillIn(each.conninfo);
    const env = environmentOf(each);
    const asksPassword = each.asksPassword ?? false;
    const ours = ourView(conninfo, env);
    const refusal = 'error' in ours ? ours.error : null;
    const isIncomparable =
      refusal !== null && (OUR_OWN.test(refusal) || isOfDefaultHost(refusal, conninfo));
    if (isIncomparable || leavesHome(conninfo, env)) {
      verdict.skipped.push(conninfo);
      continue;
    }
    const asked = asksPassword ? asWalReceiver(conninfo) : conninfo;
    const testimony = await opened().ask({ conninfo: asked, env, asksPassword });
    const difference = compare(ours, testimony, asksPassword);
    if (difference !== null)
      verdict.differences.push(`${conninfo} ${JSON.stringify(each.env ?? {})}\n${difference}`);
    (refusal === null ? verdict.taken : verdict.refused).push(conninfo);
  }
  return verdict;
}

function plainCases(strings: readonly string[]): Case[] {
  return strings.map((conninfo) => ({ conninfo }));
}

describe('a connection string', () => {
  it('is refused for its syntax with the words of libpq', async () => {
    const verdict = await examine(plainCases(SYNTAX_ERRORS));
    expect(verdict).toMatchObject({ differences: [], taken: [], skipped: [] });
  });

  it('is refused for its values with the words of libpq', async () => {
    const verdict = await examine(plainCases(VALUE_ERRORS));
    expect(verdict).toMatchObject({ differences: [], taken: [], skipped: [] });
  });

  it('leads to the hosts where libpq would go, in its order, with its parameters', async () => {
    const verdict = await examine(plainCases(ACCEPTED));
    expect(verdict).toMatchObject({ differences: [], refused: [], skipped: [] });
  });

  it('has every value of every option taken or refused as libpq does', async () => {
    const cases = Object.entries(OPTION_VALUES).flatMap(([name, values]) =>
      values.map((value) => {
        const quoted = `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
        return { conninfo: `host=127.0.0.1 port={p1} ${name}=${quoted}` };
      }),
    );
    const { differences, refused, taken, skipped } = await examine(cases);
    expect({ differences, skipped }).toEqual({ differences: [], skipped: [] });
    expect(refused.length).toBeGreaterThan(60);
    expect(taken.length).toBeGreaterThan(80);
  });

  it('has options that do not suit each other refused as libpq does', async () => {
    const cases = COMBINATIONS.map((text) => ({ conninfo: `host=127.0.0.1 port={p1} ${text}` }));
    expect(await examine(cases)).toMatchObject({ differences: [], skipped: [] });
  });

  it('has every value of every environment variable taken or refused as libpq does', async () => {
    const cases = Object.entries(OPTION_VALUES).flatMap(([name, values]) => {
      const variable = CONNINFO_OPTIONS.get(name) ?? null;
      if (variable === null) return [];
      return values.map((value) => ({ conninfo: 'host=127.0.0.1', env: { [variable]: value } }));
    });
    const { differences, refused, taken, skipped } = await examine(cases);
    expect({ differences, skipped }).toEqual({ differences: [], skipped: [] });
    expect(Math.min(refused.length, taken.length)).toBeGreaterThan(40);
  });

  it('is completed by service file, environment and password file as libpq does it', async () => {
    const cases = SOURCES.map((each) => ({ ...each, asksPassword: true }));
    expect(await examine(cases)).toMatchObject({ differences: [], skipped: [] });
  });

  it('is taken as libpq takes it when it was made up by chance', async () => {
    process.stdout.write(`conninfo differential: WALCAST_TEST_SEED=${SEED}\n`);
    const strings = generatedStrings(GENERATED, seededRandom(SEED));
    const { differences, refused, taken } = await examine(plainCases(strings));
    expect(differences).toEqual([]);
    expect(Math.min(refused.length, taken.length)).toBeGreaterThan(GENERATED / 10);
  });
});
