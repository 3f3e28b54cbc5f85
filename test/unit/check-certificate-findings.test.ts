// What a deep check says about the certificates of the ports.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { certificateFindings } from '../../src/check/certificate-findings.ts';
import type { Finding } from '../../src/check/finding.ts';
import { systemClock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/load.ts';
import { makeCertificate } from '../support/certificates.ts';
import { TlsServerRig } from '../support/tls-server-rig.ts';

const HTTP = 'http: { listen: "127.0.0.1:1", tls: { cert: server.crt, key: server.key } }';

let rig: TlsServerRig;

beforeEach(async () => {
  rig = await TlsServerRig.open();
});

afterEach(() => rig.close());

/** Of a configuration with this after what it must have. */
async function findings(text: string): Promise<Finding[]> {
  const base = 'upstream: { conninfo: host=x }\nauth: { hba: "host replication all all trust" }\n';
  await rig.write('walcast.yaml', `${base}storage: { directory: data }\n${text}\n`);
  const loaded = loadConfig({
    flags: [],
    env: {},
    file: rig.path('walcast.yaml'),
    workingDirectory: rig.directory,
  });
  if (!('config' in loaded)) throw new Error(JSON.stringify(loaded.errors));
  return await certificateFindings(loaded.config, systemClock);
}

function listening(more = ''): string {
  return `listen: [ { address: "127.0.0.1:2", tls: { cert: server.crt, key: server.key${more} } } ]`;
}

it('nothing without TLS', async () => {
  expect(await findings('listen: [ { address: "127.0.0.1:2" } ]')).toEqual([]);
});

it('how long they can be used', async () => {
  const found = await findings(`${listening()}\n${HTTP}`);
  expect(found.map(({ severity, code, subject }) => [severity, code, subject])).toEqual([
    ['ok', 'listen.certificate', '127.0.0.1:2'],
    ['ok', 'http.certificate', '127.0.0.1:1'],
  ]);
});

it.each([
  ['has expired', -9, -1],
  ['expires soon', -9, 3],
  ['is not valid yet', 3, 9],
])('a warning of one that %s', async (what, from, to) => {
  const { pem, key } = makeCertificate({ from, to });
  await rig.write('server.crt', pem);
  await rig.write('server.key', key);
  const [found] = await findings(listening());
  expect(found).toMatchObject({ severity: 'warning', message: expect.stringContaining(what) });
});

it.each<[string, () => Promise<void>, string]>([
  [
    'a key of another certificate',
    () => rig.write('server.key', makeCertificate().key),
    'check of private key failed: key values mismatch',
  ],
  [
    'a key that others may read',
    () => rig.write('server.key', rig.server.key, 0o644),
    'has group or world access',
  ],
  [
    'authorities that are none',
    () => rig.write('ca.crt', 'x'),
    'could not load root certificate file',
  ],
])('an error of %s', async (_name, spoil, message) => {
  await spoil();
  const [found] = await findings(listening(', ca: ca.crt'));
  expect(found).toMatchObject({
    severity: 'error',
    code: 'listen.certificate',
    message: expect.stringContaining(message),
    fix: expect.any(String),
  });
});
