// Does this upstream get its WAL from us? Every walcast has an id of its own and tells, by SHOW walcast_relay_path, through
// which relays its WAL comes: its own id first, then those of its upstream. Who finds its own id there would follow itself.
import { OperationalError } from '../base/errors.ts';
import { RELAY_PATH_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandRunner } from './upstream-command.ts';
import { valueText } from './upstream-query.ts';

/** Code of the error for an upstream that follows us. */
export const UPSTREAM_CYCLE: string = 'UPSTREAM_CYCLE';

/** The setting that tells the path. */
export const RELAY_PATH_SETTING: string = 'walcast_relay_path';

/**
 * Every PostgreSQL server answers this one and no walcast does. A server that is asked for a setting it does not know
 * writes an error into its log, so it is not asked for ours before.
 */
const SERVERS_ONLY_SETTING = 'shared_buffers';

/** What a relay answers. */
export function formatRelayPath(path: readonly string[]): string {
  return path.slice(0, RELAY_PATH_MAX).join(',');
}

/** The relays between the primary and that server, nearest to us first; null when it is none itself. */
export async function askRelayPath(runner: CommandRunner): Promise<readonly string[] | null> {
  const asServer = await runner.run(`SHOW ${SERVERS_ONLY_SETTING}`);
  if (asServer.error?.sqlstate !== SQLSTATE.undefinedObject) return null;
  const asRelay = await runner.run(`SHOW ${RELAY_PATH_SETTING}`);
  if (asRelay.error !== null) return null;
  const text = valueText(asRelay.results[0]?.rows[0]?.[0]) ?? '';
  const ids = text.split(',').filter((id) => /^[0-9a-z-]{1,40}$/.test(id));
  return ids.slice(0, RELAY_PATH_MAX);
}

/** Throws a retryable {@link OperationalError} with the code {@link UPSTREAM_CYCLE} when `path` leads back to us. */
export function refuseCycle(ownId: string, path: readonly string[] | null): void {
  const hops = path?.indexOf(ownId) ?? -1;
  if (hops < 0) return;
  const what =
    hops === 0
      ? 'the upstream is this walcast itself'
      : hops === 1
        ? 'the upstream is a walcast that gets its WAL from this one'
        : `the upstream is a walcast that gets its WAL from this one, through ${hops - 1} more`;
  throw new OperationalError(UPSTREAM_CYCLE, `${what}, so nothing new can come from there`, {
    isRetryable: true,
    hint: 'Point upstream.conninfo at a server that is not behind this walcast; it is asked again as long as it is listed.',
  });
}
