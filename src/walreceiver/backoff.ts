// How long to wait before the next attempt to reach the upstream.

const FIRST_DELAY_MS = 180;
const DELAY_MS_MAX = 5_000;

/**
 * Milliseconds before the attempt that follows `failures` failed ones: none after a stream that had worked (0), then
 * under 200 ms, doubling up to 5 s. `random` (0 ≤ random < 1) takes away up to half, so that many walcasts do not come
 * back in step.
 */
export function backoffMs(failures: number, random: number): number {
  if (failures <= 0) return 0;
  const full = Math.min(DELAY_MS_MAX, FIRST_DELAY_MS * 2 ** Math.min(failures - 1, 20));
  return full * (1 - random / 2);
}
