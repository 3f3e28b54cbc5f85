// What is wrong with a running relay, and what is there to do about it? One judge for the page, the API, the console and
// the command line.
import { FINDINGS_MAX } from '../config/limits.ts';
import type { RelayStatus } from '../status/status.ts';
import { accessMatters } from './access-matters.ts';
import { FINDING_SEVERITIES } from './finding.ts';
import type { Finding, FindingSeverity } from './finding.ts';
import { standbyMatters } from './standby-matters.ts';
import { storeMatters } from './store-matters.ts';
import { syncMatters } from './sync-matters.ts';
import { counted } from './told.ts';
import { upstreamMatters } from './upstream-matters.ts';

/**
 * Everything that somebody should know of `status`, the worst first; at most a fixed number, the last of which then says how
 * many more there are. `nowMs` is the time of the picture, milliseconds since the Unix epoch. Pure, never throws.
 */
export function findings(status: RelayStatus, nowMs: number): readonly Finding[] {
  // Of one severity the cause comes before what follows from it.
  const all = [
    ...upstreamMatters(status, nowMs),
    ...syncMatters(status, nowMs),
    ...storeMatters(status),
    ...standbyMatters(status, nowMs),
    ...accessMatters(status, nowMs),
  ];
  const sorted = FINDING_SEVERITIES.flatMap((word) => all.filter((one) => one.severity === word));
  if (sorted.length <= FINDINGS_MAX) return sorted;
  const shown = sorted.slice(0, FINDINGS_MAX - 1);
  const left = sorted.length - shown.length;
  return [...shown, moreFinding(left, sorted[shown.length]?.severity ?? 'info')];
}

/** The worst severity among `found`; null when there is nothing. */
export function worstSeverity(
  found: readonly { readonly severity: FindingSeverity }[],
): FindingSeverity | null {
  return FINDING_SEVERITIES.find((word) => found.some(({ severity }) => severity === word)) ?? null;
}

function moreFinding(count: number, severity: FindingSeverity): Finding {
  return {
    code: 'more',
    severity,
    subject: null,
    message: `${counted(count, 'more thing')} of this kind or less`,
    nextStep: 'Begin with those above: others may follow from them.',
    alert: null,
  };
}
