// What is wrong with a running relay, and what is there to do about it? One judge for the page, the API, the console and
// the command line.
import type { RelayStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';

/**
 * Everything that somebody should know of `status`, the worst first; at most a fixed number, the last of which then says how
 * many more there are. `nowMs` is the time of the picture, milliseconds since the Unix epoch. Pure, never throws.
 */
export function findings(_status: RelayStatus, _nowMs: number): readonly Finding[] {
  return [];
}
