// A resolved upstream address for tests: what a short connection string gives, with some fields replaced.
import { parseConninfo } from '../../src/pg/conninfo.ts';
import { upstreamTarget } from '../../src/walreceiver/upstream-target.ts';
import type { UpstreamTarget } from '../../src/walreceiver/upstream-target.ts';

/** User `replicator`, no password, plain text unless `conninfo` says otherwise. */
export function targetFor(conninfo: string, fields: Partial<UpstreamTarget> = {}): UpstreamTarget {
  const parsed = parseConninfo(conninfo);
  if ('error' in parsed) throw new Error(parsed.error);
  const defaults = { user: 'replicator', passwordFor: () => null };
  return { ...upstreamTarget(parsed, defaults), ...fields };
}
