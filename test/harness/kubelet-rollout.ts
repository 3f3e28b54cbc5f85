// Which pod of a StatefulSet is replaced next, and which one may be evicted? Decided from what is known of the pods.
// (kubernetes pkg/controller/statefulset/stateful_set_control.go:updateStatefulSet, pkg/registry/core/pod/storage/eviction.go)
import type { IPodDisruptionBudgetSpec } from 'kubernetes-models/policy/v1/PodDisruptionBudgetSpec';

/** A pod as the controller sees it. */
export interface RolloutPod {
  readonly ordinal: number;
  readonly isCurrent: boolean;
  readonly isEnding: boolean;
  readonly isAvailable: boolean;
}

/** What to do now. */
export type RolloutStep = { readonly replace: number } | 'wait' | 'done';

/** From the highest ordinal to the lowest; a pod that is not available yet holds all below it up. */
export function rolloutStep(pods: readonly RolloutPod[], replicas: number): RolloutStep {
  if (pods.length < replicas) return 'wait';
  for (const pod of pods.toSorted((left, right) => right.ordinal - left.ordinal)) {
    if (!pod.isCurrent && !pod.isEnding) return { replace: pod.ordinal };
    if (!pod.isAvailable) return 'wait';
  }
  return 'done';
}

/** A pod as its disruption budget sees it. */
export interface BudgetPod {
  readonly name: string;
  readonly isReady: boolean;
}

/** May `name` be evicted? `expected`: how many pods its controller wants. */
export function mayEvict(
  budget: IPodDisruptionBudgetSpec,
  pods: readonly BudgetPod[],
  options: { readonly name: string; readonly expected: number },
): boolean {
  const { name, expected } = options;
  const healthy = pods.filter(({ isReady }) => isReady).length;
  const isHealthy = pods.some((pod) => pod.name === name && pod.isReady);
  if (!isHealthy && budget.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  const desired =
    budget.minAvailable === undefined
      ? expected - countOf(budget.maxUnavailable ?? 0, expected)
      : countOf(budget.minAvailable, expected);
  // One that is not ready takes nothing away; IfHealthyBudget wants the others to be enough.
  return isHealthy ? healthy - 1 >= desired : healthy >= desired && desired > 0;
}

/** A number, or a share of `expected`, rounded up. */
function countOf(value: number | string, expected: number): number {
  if (typeof value === 'number') return value;
  return Math.ceil((Number(/^(\d+)%$/.exec(value)?.[1]) * expected) / 100);
}
