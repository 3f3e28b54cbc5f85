// The gate in front of upstreams, with a planted bug around it while there is one.
import type { openUpstreamGate } from '../../src/relay/upstream-gate.ts';

type OpenGate = typeof openUpstreamGate;

let around: ((open: OpenGate) => OpenGate) | null = null;

/** From now on gates are opened through `next`; null for none. */
export function setGateDoor(next: ((open: OpenGate) => OpenGate) | null): void {
  around = next;
}

/** What stands for openUpstreamGate. */
export function gateThrough(real: OpenGate): OpenGate {
  return (store, parts) => (around === null ? real : around(real))(store, parts);
}
