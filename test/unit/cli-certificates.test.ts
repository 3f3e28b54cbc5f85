// Is somebody told in time that a certificate expires, or that newer files of it are not in use?
import { expect, test } from 'vitest';
import { healthOf } from '../../src/cli/health.ts';
import { statusView } from '../../src/cli/status-view.ts';
import { SAMPLE_NOW_MS as NOW_MS, statusJson } from '../support/status-json.ts';
import type { CertificateStatus } from '../../src/status/certificate.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { sampleStatus } from '../support/relay-status.ts';

const DAY_MS = 86_400_000;

function withCertificate(overrides: Partial<CertificateStatus>): RelayStatus {
  const certificate: CertificateStatus = {
    role: 'server',
    address: '0.0.0.0:5432',
    notAfterMs: NOW_MS + 90 * DAY_MS,
    problem: null,
    ...overrides,
  };
  return sampleStatus({ certificates: [certificate], absentStandbys: [] });
}

const request = {
  lag: { warning: null, critical: null },
  standbyLag: { warning: null, critical: null },
  standbys: 0,
};

test('an end that no text can hold is no trouble, and breaks nothing', () => {
  const status = statusJson(withCertificate({ notAfterMs: Date.UTC(20_000, 0) }));
  expect(status.access.certificates).toMatchObject([{ expires_at: null }]);
  expect(healthOf(status, request).health).toBe(0);
});

test.each<[string, Partial<CertificateStatus>, number, string]>([
  [
    'one for HTTP that expires soon',
    { role: 'http', address: '10.0.0.1:9188', notAfterMs: NOW_MS + 3 * DAY_MS },
    1,
    'certificate for HTTP at 10.0.0.1:9188 expires in 3 days',
  ],
  [
    'one towards the upstream that has expired',
    { role: 'upstream_client', address: 'pg-a:5432', notAfterMs: NOW_MS - 1 },
    2,
    'certificate towards pg-a:5432 has expired',
  ],
  [
    'new files that are not in use',
    { problem: 'the key in "/etc/tls.key" does not fit the certificate' },
    1,
    'newer files are not in use: the key in "/etc/tls.key" does not fit the certificate',
  ],
])('%s is told by health, and shown by status', (_what, certificate, expected, words) => {
  const status = statusJson(withCertificate(certificate));
  const { health, line } = healthOf(status, request);
  expect([health, line]).toEqual([expected, expect.stringContaining(words)]);
  expect(statusView(status)).toContain(words);
});

test('a changed secret that is not in effect is a warning of health, and shown by status', () => {
  const { configuration, certificates } = withCertificate({});
  const words = 'users_file "users.txt" has group or world access';
  const status = statusJson(
    sampleStatus({
      certificates,
      absentStandbys: [],
      configuration: { ...configuration, secretProblems: [words] },
    }),
  );
  const { health, line } = healthOf(status, request);
  expect([health, line]).toEqual([1, expect.stringContaining(words)]);
  expect(statusView(status)).toContain(`WARNING   ${words}\n`);
});

test('a good one is no warning, and status says until when', () => {
  const status = statusJson(withCertificate({}));
  expect(healthOf(status, request).health).toBe(0);
  expect(statusView(status)).toContain(
    'tls       for standbys at 0.0.0.0:5432: certificate until 2024-02-12T22:15:00.500Z\n',
  );
});

test('status shows logins that failed, by method, and nothing where none did', () => {
  const { standbyTotals } = sampleStatus();
  const view = (counts: [string, number][]): string =>
    statusView(
      statusJson(
        sampleStatus({ standbyTotals: { ...standbyTotals, authentications: new Map(counts) } }),
      ),
    );
  expect(view([['scram-sha-256|success', 3]])).not.toContain('logins');
  expect(
    view([
      ['scram-sha-256|success', 3],
      ['scram-sha-256|failure', 2],
      ['md5|failure', 1],
    ]),
  ).toContain('logins    failed since the start: scram-sha-256 2, md5 1\n');
});
