// Are standbys judged by what they say of themselves: receivers that never replay, and those that leave their slot alone?
import { expect, test } from 'vitest';
import type { Finding } from '../../src/health/finding.ts';
import { findings } from '../../src/health/findings.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { RelayStatus, SlotStatus } from '../../src/status/status.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const NOW_MS = 1_700_000_100_000;
const DAY_MS = 86_400_000;

const [SLOT] = sampleStatus().slots as readonly [SlotStatus];

/** What is found of standbys and slots alone. */
function of(overrides: Partial<RelayStatus>): readonly Finding[] {
  const status = sampleStatus({ absentStandbys: [], ...overrides });
  return findings(status, NOW_MS).filter(({ code }) => code.startsWith('standby_'));
}

test('that only receive are judged by what they have flushed, or else written', () => {
  const receiver = sampleStandby({
    applyLsn: INVALID_LSN,
    flushLsn: toLsn(0x2000000n),
    endToEndLag: { writeSeconds: 301, flushSeconds: 301, applySeconds: null },
  });
  const writer = {
    ...receiver,
    flushLsn: INVALID_LSN,
    writeLsn: toLsn(0x2000000n),
    endToEndLag: { writeSeconds: 301, flushSeconds: null, applySeconds: null },
  };
  for (const standby of [receiver, writer]) {
    const [found] = of({ standbys: [standby], slots: [] });
    expect(found).toMatchObject({ code: 'standby_lagging', alert: 'WalcastStandbyLagging' });
    expect(found?.message).toMatch(/is at 0\/2000000, [1-9]\S* [GM]B and 301 s behind/);
    const [stalled] = of({ standbys: [{ ...standby, isStalled: true }], slots: [] });
    expect(stalled?.message).toMatch(/: it is at 0\/2000000, [1-9]\S* [GM]B behind$/);
  }
  const silent = { ...writer, writeLsn: INVALID_LSN, isStalled: true };
  expect(of({ standbys: [silent], slots: [] })[0]?.message).toMatch(
    /: it is at no known position$/,
  );
});

test('that stream without the slot of their name are not said to be away', () => {
  const slot = { ...SLOT, activePid: null, inactiveSinceMs: NOW_MS - DAY_MS };
  const standby = sampleStandby({ applicationName: SLOT.name, slotName: null });
  const found = of({ slots: [slot], standbys: [standby] });
  expect(found.map(({ code, severity, subject }) => `${code} ${severity} ${subject}`)).toEqual([
    `standby_away info ${SLOT.name}`,
  ]);
  expect(found[0]?.message).toBe(
    `slot ${SLOT.name} has not been used for 24 h, although a standby ${SLOT.name} is connected; it keeps 32.0 MB`,
  );
  expect(found[0]?.nextStep).toContain(`walcast slots drop ${SLOT.name}`);
});
