// The whole program with TLS on its HTTP port, as a person sets it up: do the commands talk to it, is a renewed certificate used,
// is a broken one told of everywhere?
import { spawn } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { openHttpsFetch } from '../../src/net/https-fetch.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../harness/free-port.ts';
import { PROGRAM } from './fault-support.ts';

const DAY_MS = 86_400_000;
const authority = makeCertificate({ commonName: 'the authority', isAuthority: true });
let directory: string;
let relay: WalcastProcess;
let url: string;

function certificate(to: number): TestCertificate {
  return makeCertificate({ dns: ['localhost'], issuer: authority, to });
}

/** As a tool that renews certificates does it: whole files that take the place of others. */
async function put(name: string, text: string): Promise<void> {
  await writeFile(join(directory, `${name}.new`), text, { mode: 0o600 });
  await rename(join(directory, `${name}.new`), join(directory, name));
}

function ask(...words: string[]): Promise<CliOutcome> {
  return walcast([...words, '--url', url, '--ca', join(directory, 'ca.crt')]);
}

async function status(): Promise<StatusJson> {
  const { code, out, err } = await ask('status', '--json');
  expect([code, err]).toEqual([0, '']);
  return JSON.parse(out) as StatusJson;
}

/** Metrics as a scraper that knows the authority gets them. */
async function metrics(): Promise<string> {
  const secure = await openHttpsFetch({ ca: join(directory, 'ca.crt'), cert: null, key: null });
  try {
    const answer = await secure.fetch(new URL('/metrics', url), {
      method: 'GET',
      headers: {},
      redirect: 'error',
      signal: AbortSignal.timeout(10_000),
    });
    const parts: Uint8Array[] = [];
    for await (const part of answer.body ?? []) parts.push(part);
    return Buffer.concat(parts).toString();
  } finally {
    await secure.close();
  }
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-http-tls-'));
  const first = certificate(30);
  await put('ca.crt', authority.pem);
  await put('http.crt', first.pem);
  await put('http.key', first.key);
  await put('wal-token', 'the-token-for-wal-of-this-test\n');
  const configuration = {
    // Nobody is there: the HTTP port needs no upstream.
    upstream: { conninfo: `host=127.0.0.1 port=${await freePort()} user=x sslmode=disable` },
    listen: [{ address: '127.0.0.1:0' }],
    storage: { directory: join(directory, 'store') },
    http: {
      listen: '127.0.0.1:0',
      wal_token_file: 'wal-token',
      tls: { cert: 'http.crt', key: 'http.key' },
    },
    log: { level: 'info', format: 'json' },
  };
  await put('walcast.yaml', stringify(configuration));
  const child = spawn(process.execPath, [PROGRAM, 'run', '-c', join(directory, 'walcast.yaml')], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  relay = new WalcastProcess(child, child.pid ?? 0);
  const opened = await relay.waitForLog(/"msg":"HTTP port is open"/);
  url = (/"url":"(https:[^"]+)"/.exec(opened)?.[1] ?? '').replace('127.0.0.1', 'localhost');
});

afterAll(async () => {
  await relay.stop('SIGINT');
  await rm(directory, { recursive: true });
});

it('is asked by the commands over TLS, and shows its certificate', async () => {
  const { access } = await status();
  expect(access.certificates).toEqual([
    {
      role: 'http',
      address: expect.stringMatching(/^127\.0\.0\.1:/),
      expires_at: expect.any(String),
      problem: null,
    },
  ]);
  const left = Date.parse(access.certificates[0]?.expires_at ?? '') - Date.now();
  expect(Math.round(left / DAY_MS)).toBe(30);
  expect((await ask('health')).out).not.toContain('certificate');
  expect((await ask('status')).out).toContain('tls       for HTTP at 127.0.0.1:');
  expect(await metrics()).toMatch(
    /^walcast_tls_certificate_not_after_timestamp_seconds\{role="admin"\} \d+$/m,
  );
});

it('gives WAL to who has the token, and plain text to nobody', async () => {
  const words = ['wal', 'get', '00000002.history', join(directory, 'x')];
  expect((await ask(...words)).err).toContain('--token-file');
  // There is no WAL yet: that is what is told with the token.
  const told = await ask(...words, '--token-file', join(directory, 'wal-token'));
  expect([told.code, told.err]).toEqual([1, expect.not.stringContaining('token')]);
  await expect(fetch(`${url.replace('https:', 'http:')}/livez`)).rejects.toThrow();
});

it('goes on with the old pair while the new one does not fit together, and says so everywhere', async () => {
  const next = certificate(10);
  await put('http.crt', next.pem);
  relay.signal('SIGHUP');
  await relay.waitForLog(/the new certificate cannot be used/);
  const { access } = await status();
  expect(access.certificates[0]?.problem).toContain('key values mismatch');
  const health = await ask('health');
  expect([health.code, health.out]).toEqual([
    expect.any(Number),
    expect.stringContaining('newer files are not in use'),
  ]);
  await put('http.key', next.key);
  relay.signal('SIGHUP');
  await relay.waitForLog(/a new certificate is in use/);
  await eventually(async () => (await status()).access.certificates[0]?.problem).toBe(null);
  // Ten days are less than two weeks.
  expect((await ask('health')).out).toMatch(/expires in (9|10) days/);
  expect(relay.log.join('\n')).not.toContain('PRIVATE KEY');
});
