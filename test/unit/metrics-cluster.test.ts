// Which cluster is a relay of? Alerts look at relays of one cluster together, and must not count one that was just started as of another.
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { sampleStatus } from '../support/relay-status.ts';

const { upstream } = sampleStatus();

test.each([
  ['it was started and has not reached a server yet', '73', null, '73'],
  ['what it has reached is a server of another cluster', '73', '99', '73'],
  ['nothing is stored yet', null, '99', '99'],
  ['nothing is known', null, null, ''],
] as const)('while %s', async (_, stored, reached, shown) => {
  const line = await upstreamInfo({
    systemIdentifier: stored,
    upstream: { ...upstream, systemIdentifier: reached },
  });
  expect(line).toContain(`system_identifier="${shown}"`);
});

async function upstreamInfo(parts: Partial<RelayStatus>): Promise<string | undefined> {
  const source = { status: () => sampleStatus(parts) };
  const metrics = openMetrics({ source, clock: systemClock });
  const { body } = await metrics.render();
  return body.split('\n').find((line) => line.startsWith('walcast_upstream_info{'));
}
