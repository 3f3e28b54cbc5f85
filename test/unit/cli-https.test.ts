// Do the commands that ask a running walcast speak TLS with it, believe whom they should, and nobody else?
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { HttpServer } from '../../src/http/server.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openTestPort, RecordingActions, sampleFile } from '../support/http-port.ts';

const TOKEN = 'a-token-of-some-length';
const WAL_TOKEN = 'a-token-for-wal-of-some-length';
const HISTORY = '1\t0/3000000\twhy\n';
const authority = makeCertificate({ commonName: 'the authority', isAuthority: true });
const other = makeCertificate({ commonName: 'another', isAuthority: true });
const own = makeCertificate({ commonName: 'monitor', issuer: authority });
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-cli-https-'));
  const write = (name: string, text: string): void =>
    writeFileSync(join(directory, name), text, { mode: 0o600 });
  write('ca.crt', authority.pem);
  write('other.crt', other.pem);
  write('own.crt', own.pem);
  write('own.key', own.key);
  write('other.key', other.key);
  write('no.crt', 'no certificate\n');
  write('token', `${TOKEN}\n`);
  write('wal-token', `${WAL_TOKEN}\n`);
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

async function serve(
  certificate: TestCertificate = makeCertificate({ dns: ['localhost'], issuer: authority }),
  ca: string | null = null,
): Promise<{ url: string; actions: RecordingActions; server: HttpServer }> {
  const actions = new RecordingActions();
  actions.file = (name) => sampleFile(name, [Buffer.from(HISTORY)]);
  const server = await openTestPort({
    actions,
    token: () => TOKEN,
    walToken: () => WAL_TOKEN,
    tls: {
      hasClientAuthorities: ca !== null,
      current: () => ({ cert: certificate.pem, key: certificate.key, ca }),
      onChange: () => () => {},
    },
  });
  onTestFinished(() => server.close());
  return { url: `https://localhost:${server.port}`, actions, server };
}

async function type(
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<CliOutcome> {
  return await walcast(words, { workingDirectory: directory, env });
}

describe('with --ca', () => {
  test('status, health and changes go over TLS', async () => {
    const { url, actions } = await serve();
    const where = ['--url', url, '--ca', 'ca.crt'];
    expect((await type(['status', '--json', ...where])).code).toBe(0);
    expect((await type(['status', ...where])).out).toContain('standby_a');
    expect((await type(['health', ...where])).out).toMatch(/^WALCAST /);
    expect((await type(['drain', '--timeout', '0', ...where])).code).toBe(2);
    const token = ['--token-file', 'token'];
    expect((await type(['slots', 'create', 'one', ...where, ...token])).code).toBe(0);
    expect(actions.done).toEqual(['create one false']);
  });

  test('wal get fetches with the token for WAL files, named by an option or a variable', async () => {
    const { url } = await serve();
    const command = ['wal', 'get', '00000002.history', 'x', '--url', url, '--ca', 'ca.crt'];
    for (const [words, env] of [
      [['--token-file', 'wal-token'], {}],
      [['--token-file', 'token'], {}],
      [[], { WALCAST_HTTP_WAL_TOKEN_FILE: 'wal-token' }],
      [[], { WALCAST_HTTP_TOKEN_FILE: 'token' }],
      [[], { WALCAST_HTTP_WAL_TOKEN_FILE: 'wal-token', WALCAST_HTTP_TOKEN_FILE: 'nowhere' }],
    ] as const) {
      expect(await type([...command, ...words], env)).toEqual({ code: 0, out: '', err: '' });
      expect(readFileSync(join(directory, 'x'), 'utf8')).toBe(HISTORY);
      rmSync(join(directory, 'x'));
    }
    const refused = await type(command);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('--token-file');
  });

  test('a certificate of another authority, for another name, or past its end is not believed', async () => {
    const { url } = await serve();
    const strange = await serve(makeCertificate({ dns: ['relay.example'], issuer: authority }));
    const expired = await serve(
      makeCertificate({ dns: ['localhost'], issuer: authority, from: -3, to: -1 }),
    );
    const cases: readonly (readonly [string, string])[] = [
      [url, 'other.crt'],
      [strange.url, 'ca.crt'],
      [expired.url, 'ca.crt'],
    ];
    for (const [where, ca] of cases) {
      const { code, err } = await type(['status', '--url', where, '--ca', ca]);
      expect(code).toBe(1);
      expect(err).toContain('--ca names the file');
      const health = await type(['health', '--url', where, '--ca', ca]);
      expect(health.code).toBe(2);
    }
  });

  test.each([
    ['nowhere.crt', 'ENOENT'],
    ['no.crt', 'no certificate'],
  ])('a file that cannot be used is named: %s', async (file, reason) => {
    const { url } = await serve();
    const { code, err } = await type(['status', '--url', url, '--ca', file]);
    expect([code, err]).toEqual([1, expect.stringContaining(file)]);
    expect(err).toContain(reason);
  });
});

test('without --ca the authorities of the system count, and nothing is asked of anybody else', async () => {
  const { url, actions } = await serve();
  const words = ['slots', 'create', 'one', '--url', url, '--token-file', 'token'];
  const { code, err } = await type(words);
  expect([code, err]).toEqual([1, expect.stringContaining('--ca names the file')]);
  expect(actions.done).toEqual([]);
});

test('a port that speaks TLS, asked in plain text, is told as one', async () => {
  const { server } = await serve();
  const { code, err } = await type(['status', '--url', `http://localhost:${server.port}`]);
  expect([code, err]).toEqual([1, expect.stringContaining('https')]);
});

describe('a port that wants a certificate of ours', () => {
  test('gets it with --cert and --key', async () => {
    const { url } = await serve(undefined, authority.pem);
    const where = ['--url', url, '--ca', 'ca.crt'];
    const refused = await type(['status', ...where]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('--cert and --key')]);
    expect((await type(['health', ...where])).out).toMatch(
      /CRITICAL - .* wants a client certificate\n$/,
    );
    const shown = ['--cert', 'own.crt', '--key', 'own.key'];
    expect((await type(['status', ...where, ...shown])).code).toBe(0);
  });

  test.each([
    ['no.crt', 'own.key', 'no.crt'],
    ['own.crt', 'no.crt', 'no.crt'],
    ['own.crt', 'nowhere.key', 'nowhere.key'],
    ['own.crt', 'other.key', 'other.key'],
  ])('%s with %s that cannot be used is told by its name', async (cert, key, named) => {
    const { url } = await serve(undefined, authority.pem);
    const where = ['--url', url, '--ca', 'ca.crt', '--cert', cert, '--key', key];
    const status = await type(['status', ...where]);
    expect([status.code, status.err]).toEqual([1, expect.stringContaining(`${named}" cannot be`)]);
    const health = await type(['health', ...where]);
    expect([health.code, health.out]).toEqual([2, expect.stringMatching(/^WALCAST CRITICAL - /)]);
  });

  test('one without the other is a mistake of usage', async () => {
    const { url } = await serve();
    expect((await type(['status', '--url', url, '--cert', 'own.crt'])).code).toBe(2);
    expect((await type(['health', '--url', url, '--key', 'own.key'])).code).toBe(2);
  });
});
