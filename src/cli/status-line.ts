// How is the relay, on one line that changes only when something has changed? For `systemctl status`.
import type { RelayStatus } from '../status/status.ts';

/** State, upstream, number of standbys, and why it is so where that is not plain. Holds no position: those move all the time. */
export function statusLine(status: RelayStatus): string {
  const { state, detail, upstream, standbys } = status;
  const server = upstream.host === null ? '' : ` from ${upstream.host}:${upstream.port ?? '?'}`;
  const how = state === 'streaming' || state === 'catchup' ? `${state}${server}` : state;
  const count = `${standbys.length} ${standbys.length === 1 ? 'standby' : 'standbys'}`;
  return [how, count, ...(detail === null ? [] : [detail])].join('; ');
}
