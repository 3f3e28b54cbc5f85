// The answer of /api/v1/status for a made-up status, at a made-up time.
import type { StatusJson } from '../../src/http/api-types.ts';
import { statusJson as statusJsonAt } from '../../src/http/status-json.ts';
import type { RelayStatus } from '../../src/status/status.ts';

/** When pictures of made-up figures were taken, milliseconds since the Unix epoch: a moment after everything in them. */
export const SAMPLE_NOW_MS = 1_700_000_100_500;

/** As a relay in that state answers it. */
export function statusJson(status: RelayStatus): StatusJson {
  return statusJsonAt(status, SAMPLE_NOW_MS);
}
