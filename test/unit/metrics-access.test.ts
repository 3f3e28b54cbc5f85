// Does /metrics say who logged in, who could not, and how long our certificates are good?
import { expect, test } from 'vitest';
import { openMetrics } from '../../src/metrics/registry.ts';
import type { CertificateStatus } from '../../src/status/certificate.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { SessionCounts } from '../../src/walsender/session-counts.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

/** The series of a family and their values. */
async function seriesOf(status: RelayStatus, family: string): Promise<Record<string, number>> {
  const metrics = openMetrics({
    source: { status: () => status },
    clock: new ManualClock(),
  });
  const { body } = await metrics.render();
  const lines = body.split('\n').filter((line) => line.startsWith(`walcast_${family}{`));
  return Object.fromEntries(
    lines.map((line) => {
      const [, labels = '', value = ''] = /^\w+(\{.*\}) (\S+)$/.exec(line) ?? [];
      return [labels, Number(value)];
    }),
  );
}

test('the expiry of each kind of certificate shows, of several the first, and no other', async () => {
  const family = 'tls_certificate_not_after_timestamp_seconds';
  const of = (role: CertificateStatus['role'], notAfterMs: number): CertificateStatus => {
    return { role, address: '0.0.0.0:5432', notAfterMs, problem: null };
  };
  const certificates = [
    of('server', 1_900_000_000_000),
    of('server', 1_800_000_000_000),
    of('http', 1_850_000_000_500),
    of('upstream_client', 1_750_000_000_000),
  ];
  expect(await seriesOf(sampleStatus({ certificates }), family)).toEqual({
    '{role="server"}': 1_800_000_000,
    '{role="admin"}': 1_850_000_000.5,
    '{role="upstream_client"}': 1_750_000_000,
  });
  expect(await seriesOf(sampleStatus({ certificates: [] }), family)).toEqual({});
});

test('every method of authentication is counted from the start', async () => {
  const family = 'client_authentications_total';
  const { standbyTotals } = sampleStatus();
  const series = (counts: [string, number][]): Promise<Record<string, number>> => {
    const totals = { ...standbyTotals, authentications: new Map(counts) };
    return seriesOf(sampleStatus({ standbyTotals: totals }), family);
  };
  const zero = await series([]);
  expect(Object.values(zero)).toEqual(Array<number>(10).fill(0));
  const counted = await series([
    ['scram-sha-256|success', 7],
    ['scram-sha-256|failure', 2],
  ]);
  expect(Object.keys(counted)).toEqual(Object.keys(zero));
  expect(counted).toMatchObject({
    '{method="scram-sha-256",outcome="success"}': 7,
    '{method="scram-sha-256",outcome="failure"}': 2,
    '{method="cert",outcome="success"}': 0,
  });
});

test('who no rule lets in is counted as a failure of reject', () => {
  const counts = new SessionCounts();
  counts.rejected('hba');
  counts.rejected('auth');
  const { rejected, authentications } = counts.totals();
  expect(rejected).toMatchObject({ hba: 1, auth: 1 });
  expect([...authentications]).toEqual([['reject|failure', 1]]);
});
