// What a connection string leaves open is filled in here, as libpq fills it in from the environment.
import { userInfo } from 'node:os';
import type { Conninfo } from '../pg/conninfo.ts';
import { upstreamTarget } from '../walreceiver/upstream-target.ts';
import type { UpstreamTarget } from '../walreceiver/upstream-target.ts';

/** The upstream's address, user and password. */
export function targetOf(
  conninfo: Conninfo,
  env: Readonly<Record<string, string | undefined>> = process.env,
): UpstreamTarget {
  return upstreamTarget(conninfo, {
    user: env['PGUSER'] ?? userInfo().username,
    passwordFor: () => env['PGPASSWORD'] ?? null,
  });
}
