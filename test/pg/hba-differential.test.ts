// Do our rules decide as those of a real server? The same lines, maps and regular expressions are given to both: wrong ones
// are told in the same words, and real connections from several addresses, with TLS and without, are let in by the same.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { KnownHostNames } from '../../src/net/host-names.ts';
import { parseHba } from '../../src/pg/hba.ts';
import type { HbaError } from '../../src/pg/hba.ts';
import { parseIdent } from '../../src/pg/ident.ts';
import { bytesAsText, matchName, readNamePattern } from '../../src/pg/name-pattern.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { hbaProblems, HBA_LINES, IDENT_LINES, randomRules } from '../support/hba-samples.ts';
import { rawFields, RawSession, startup } from '../support/raw-session.ts';
import { FULL_FAULTS, NEWEST_MAJOR, TEST_MAJORS } from '../support/requirements.ts';
import { SSL_REQUEST, TlsServerRig } from '../support/tls-server-rig.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

/** Regular expressions, including of files and in maps, are of PostgreSQL 16. */
const MAJORS = (FULL_FAULTS ? TEST_MAJORS : [NEWEST_MAJOR]).filter((major) => major >= 16);

const SEED = Number(process.env['WALCAST_TEST_SEED'] ?? 20_261_123);
const RUNS = FULL_FAULTS ? 20_000 : 1_500;

/** Who connects. */
interface Attempt {
  readonly address: string;
  readonly isEncrypted: boolean;
  readonly user: string;
  readonly database: string;
  readonly isReplication: boolean;
  readonly certificate?: TestCertificate;
}

describe.each(MAJORS)('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let tls: TlsServerRig;
  let walcast: Fixture;

  beforeAll(async () => {
    tls = await TlsServerRig.open({ clientCert: 'optional' });
    walcast = await Fixture.start({ major, tls: tls.acceptor });
    walcast.names = new KnownHostNames(systemClock);
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      segmentSizeMb: 1,
      settings: { ssl: 'on', ssl_ca_file: 'root.crt', unix_socket_directories: '' },
    });
    await serverFile('root.crt', tls.authority.pem);
    await serverFile('server.crt', tls.server.pem);
    await serverFile('server.key', tls.server.key);
    await primary.start();
    await primary.query(TRY_PATTERN);
  });

  afterAll(async () => {
    walcast.close();
    await tls.close();
    await workspace.close();
  });

  async function serverFile(name: string, content: string): Promise<void> {
    const path = join(primary.dataDirectory, name);
    await writeFile(path, content, { mode: 0o600 });
    await workspace.giveAway(path);
  }

  /** Both files are in effect for both, below a rule for our own questions. */
  async function load(hba: string, ident = ''): Promise<void> {
    const maps = parseIdent(ident);
    if (!('lines' in maps)) throw new Error(JSON.stringify(maps));
    walcast.identMaps = maps;
    walcast.hba = rules(hba);
    await serverFile('pg_hba.conf', `${OWN_RULE}\n${hba}`);
    await serverFile('pg_ident.conf', ident);
    await primary.reload();
  }

  /** What is said first at a port: `in`, or the refusal. */
  async function attempt(who: Attempt, port = primary.port): Promise<string> {
    const session = new RawSession(await openSocket(who, port));
    const { user, database, isReplication } = who;
    session.send(startup({ user, ...(isReplication ? { replication: 'true' } : { database }) }));
    const message = await session.next();
    session.close();
    if (message?.type === 'R') return message.body.readInt32BE(0) === 0 ? 'in' : 'asked';
    return message === null ? 'closed' : (rawFields(message.body)['M'] ?? '');
  }

  async function openSocket(
    { address, isEncrypted, certificate }: Attempt,
    port: number,
  ): Promise<Socket> {
    const socket = connect({ port, host: '127.0.0.1', localAddress: address });
    await once(socket, 'connect');
    if (!isEncrypted) return socket;
    socket.write(SSL_REQUEST);
    const [answer] = await once(socket, 'data');
    expect(String(answer)).toBe('S');
    const secure = connectTls({
      socket,
      ca: tls.authority.pem,
      servername: 'localhost',
      ...(certificate === undefined ? {} : { cert: certificate.pem, key: certificate.key }),
    });
    await once(secure, 'secureConnect');
    return secure;
  }

  it('takes regular expressions as we do, and finds the same', async () => {
    const samples = fc.sample(PATTERN_AND_NAME, { numRuns: RUNS, seed: SEED });
    // Rules are matched before a database with an encoding is there: a character is a byte.
    const values = samples.map((sample, i) => `(${[i, ...sample.map(literalBytes)].join(', ')})`);
    const rows = await primary.query(
      `SELECT try(p, s) FROM (VALUES ${values.join(', ')}) AS v (i, p, s) ORDER BY i`,
    );
    const differing: unknown[] = [];
    let [matched, refused, sameWords] = [0, 0, 0];
    for (const [index, [pattern, name]] of samples.entries()) {
      const theirs = rows[index]?.[0] ?? '';
      const read = readNamePattern(pattern);
      if ('problem' in read) {
        refused += 1;
        const isRefused = theirs.startsWith('error ') || OUR_REFUSALS.test(read.problem);
        if (!isRefused) differing.push({ pattern, theirs, ours: read.problem });
        if (theirs === `error ${read.problem}`) sameWords += 1;
        continue;
      }
      const match = matchName(read, name);
      if (match !== null) matched += 1;
      const isGroupCompared = read.hasGroup && !read.isGroupUnsure;
      const group = isGroupCompared ? (match?.group ?? '<null>') : '';
      const ours = match === null ? 'no' : `yes ${group}`;
      const comparable = isGroupCompared ? theirs : theirs.replace(/^yes .*/s, 'yes ');
      if (ours !== comparable) differing.push({ pattern, name, theirs, ours });
    }
    expect(differing).toEqual([]);
    expect(matched).toBeGreaterThan(RUNS / 20);
    expect(refused).toBeGreaterThan(RUNS / 20);
    // Of several mistakes another one may be found first.
    expect(sameWords).toBeGreaterThan(refused / 2);
  });

  it('says of each line of pg_hba.conf what we say', async () => {
    await serverFile('more.conf', 'host all all all reject\nhost all all all hope\n');
    await serverFile('names', 'anne, bert\n\ncarl # not dora\n');
    await serverFile('pg_hba.conf', `${OWN_RULE}\n${HBA_LINES.join('\n')}\n`);
    const rows = await primary.query(
      'SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY rule_number NULLS LAST, line_number',
    );
    const theirs = new Map(rows.map(([line, error]) => [Number(line) - 1, error ?? '']));
    const differing = HBA_LINES.flatMap((line, index) => {
      const theirsHere = theirs.get(index + 1) ?? null;
      const ours = problemOf(parseHba(line));
      const expected = hbaProblems(line, theirsHere);
      return ours === expected ? [] : [{ line, ours, theirs: theirsHere }];
    });
    expect(differing).toEqual([]);
    expect(theirs.size).toBeGreaterThan(20);
  });

  it('says of each line of pg_ident.conf what we say', async () => {
    await serverFile('pg_ident.conf', IDENT_LINES.join('\n'));
    const rows = await primary.query(
      'SELECT line_number, error FROM pg_ident_file_mappings WHERE error IS NOT NULL',
    );
    const theirs = new Map(rows.map(([line, error]) => [Number(line), error ?? '']));
    const ours = IDENT_LINES.map((line) => problemOf(parseIdent(line)));
    expect(ours).toEqual(IDENT_LINES.map((_line, index) => theirs.get(index + 1) ?? null));
    expect(theirs.size).toBeGreaterThan(3);
  });

  it('lets in whom walcast lets in, from every address, with TLS and without, and says the same', async () => {
    const differing: unknown[] = [];
    const seen = new Map<string, number>();
    for (let round = 0; round < (FULL_FAULTS ? 8 : 3); round += 1) {
      const text = randomRules(SEED + round);
      await load(text);
      for (const who of ATTEMPTS) {
        const theirs = await attempt(who);
        const ours = await attempt(who, walcast.port);
        const decision = decisionOf(theirs);
        seen.set(decision, (seen.get(decision) ?? 0) + 1);
        if (ours !== theirs) differing.push({ text, who, ours, theirs });
      }
    }
    expect(differing).toEqual([]);
    expect([...seen.keys()].toSorted()).toEqual(['in', 'none', 'reject']);
    expect(Math.min(...seen.values())).toBeGreaterThan(ATTEMPTS.length / 8);
  });

  it('takes each byte of a name for a character, as walcast does', async () => {
    const words = ['/^.$', '/^[ä]$', '/^[^x]$', '/^ä{2}$', '/^ö$', '/^..$', '/^(ä){2}$'];
    const differing: unknown[] = [];
    for (const text of words.map((word) => `host all ${word} all reject`)) {
      await load(text);
      for (const user of ['ä', 'ää', 'ö']) {
        const who = { address: '127.0.0.3', isEncrypted: false, user, database: 'walcast' };
        const theirs = await attempt({ ...who, isReplication: false });
        const ours = await attempt({ ...who, isReplication: false }, walcast.port);
        if (theirs !== ours) differing.push({ text, user, theirs, ours });
      }
    }
    expect(differing).toEqual([]);
  });

  it('maps names in certificates to users as walcast does', async () => {
    await load('hostssl all all all cert map=certs', IDENT_MAP.join('\n'));
    const differing: unknown[] = [];
    let [allowed, denied] = [0, 0];
    for (const commonName of ['anne', 'bert@example.com', 'all', 'a.b@corp', 'zoe@x', '+ops']) {
      const certificate = makeCertificate({ commonName, issuer: tls.authority });
      for (const user of ['anne', 'bert', 'all', 'corp_a.b', 'team_7', 'guest', 'x\\1', 'dora']) {
        // An address whose logins fail time and again is answered late.
        const address = `127.0.2.${(allowed + denied) % 250}`;
        const who = { address, isEncrypted: true, user, database: 'walcast' };
        const theirs = await attempt({ ...who, isReplication: false, certificate });
        const ours = await attempt({ ...who, isReplication: false, certificate }, walcast.port);
        if (theirs !== ours) differing.push({ commonName, user, theirs, ours });
        if (theirs === 'in') allowed += 1;
        else denied += 1;
      }
    }
    expect(differing).toEqual([]);
    expect([allowed > 8, denied > 8]).toEqual([true, true]);
  });
});

const OWN_RULE = 'host all postgres 127.0.0.1/32 trust';

/** What we refuse and PostgreSQL takes: it would have to be searched for by trying. */
const OUR_REFUSALS =
  /^(back references|looking ahead or behind|embedded options) cannot be used$|too complex$/;

const TRY_PATTERN = `
CREATE FUNCTION try(p text, s text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text[];
BEGIN
  m := regexp_match(s COLLATE "C", p COLLATE "C");
  IF m IS NULL THEN RETURN 'no'; END IF;
  RETURN 'yes ' || coalesce(m[1], '<null>');
EXCEPTION WHEN invalid_regular_expression THEN
  RETURN 'error ' || regexp_replace(SQLERRM, '^invalid regular expression: ', '');
END $$`;

const IDENT_MAP: readonly string[] = [
  'other anne postgres',
  'certs anne anne',
  'certs anne "all"',
  String.raw`certs /^(.*)@example\.com$ \1`,
  String.raw`certs "/^(\w+)\.?(.*)@corp$" corp_\1.b`,
  'certs bert@example.com /^team_[0-9]+$',
  'certs /^all$ all',
  'certs /^zoe /nothing',
  'certs /^zoe guest',
  String.raw`certs /^zoe x\1`,
];

const NAME_PARTS = ['a', 'b', 'ab', '1', '_', '@', '.', '-', 'ä', ' '] as const;

const PATTERN_PARTS: readonly string[] = [
  String.raw`a b ab 1 @ - ä . * + ? ( ) ( ) (?: | ^ $ [ab] [^a] [a-z] []a] [a- [[:alpha:]] [[:digit:]_]`,
  String.raw`[^[:alnum:]] [[:nope:]] [\d] [[.-.]] [[=a=]] [b-a] [[.x [[:<:]] [[:>:]] [] {2} {1,2} {0,1} {,2}`,
  String.raw`{2,1} {256} {1 { } *? +? ?? \d \w \s \D \W \S \m \M \y \Y \A \Z \. \@ \x61 \u0061 \141 \0 \cA \q`,
  String.raw`\1 \ \t \B ***= ***: (?i) (?=a) (?<!b) (?x`,
].flatMap((parts) => parts.split(' '));

const PATTERN_AND_NAME = fc.tuple(
  fc
    .array(
      fc.oneof(
        {
          weight: 3,
          arbitrary: fc.constantFrom('a', 'b', '.', '(a', '(b|a)', '(a*)', '[ab]', 'a?', '.*'),
        },
        { weight: 2, arbitrary: fc.constantFrom(...PATTERN_PARTS) },
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((parts) => parts.join('')),
  fc.array(fc.constantFrom(...NAME_PARTS), { maxLength: 6 }).map((parts) => parts.join('')),
);

function literalBytes(text: string): string {
  return `'${bytesAsText(text).replaceAll("'", "''")}'`;
}

function problemOf(parsed: object | readonly HbaError[]): string | null {
  return Array.isArray(parsed) ? String(parsed[0]?.message) : null;
}

/** (auth.c:ClientAuthentication) */
function decisionOf(answer: string): string {
  if (answer.startsWith('pg_hba.conf rejects ')) return 'reject';
  return answer.startsWith('no pg_hba.conf entry for ') ? 'none' : answer;
}

const ATTEMPTS: readonly Attempt[] = ['127.0.0.1', '127.0.0.2', '127.1.0.1'].flatMap((address) =>
  [false, true].flatMap((isEncrypted) =>
    ['anne', 'bert', 'all', 'walcast'].flatMap((user) => [
      { address, isEncrypted, user, database: 'walcast', isReplication: false },
      { address, isEncrypted, user, database: '', isReplication: true },
    ]),
  ),
);
