// What a deep check collected from one host of PostgreSQL 18, with nothing wrong.
import type { HostProbe } from '../../src/check/host-probe.ts';

/** Nothing was asked yet. */
export const SAMPLE_PROBE: HostProbe = {
  host: { host: 'pg-a', address: 'pg-a', port: 5432, password: null },
  subject: 'pg-a:5432',
  user: 'u',
  timeoutMs: 10_000,
  failure: null,
  isMendedByTls: false,
  tlsVersion: null,
  clientCertificateExpiresAtMs: null,
  identity: null,
  settings: new Map(),
  sql: null,
  sqlProblem: null,
  slotType: null,
};
