// People are told when commits wait for what nobody does: to apply WAL.
import { beforeEach, expect, it } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { ApplyAlarm } from '../../src/relay/apply-alarm.ts';
import type { ApplySituation } from '../../src/relay/apply-alarm.ts';
import { parseSynchronousStandbyNames } from '../../src/syncrep/standby-names.ts';

const NO_POLICY: ApplySituation = {
  policy: null,
  quorum: { isSatisfied: true, eligible: 0, positions: null },
};

let lines: string[];
let asked: number;
let alarm: ApplyAlarm;

beforeEach(() => {
  lines = [];
  asked = 0;
  const destination = { write: (line: string) => void lines.push(line) };
  alarm = new ApplyAlarm(openLog({ level: 'warn', format: 'text', destination }));
});

/** `applied`: what the chosen standbys have applied; null while too few are there. */
function under(text: string, applied: bigint | null): ApplySituation {
  const flushLsn = toLsn(0x3000000n);
  const positions =
    applied === null ? null : { writeLsn: flushLsn, flushLsn, applyLsn: toLsn(applied) };
  return {
    policy: parseSynchronousStandbyNames(text),
    quorum: { isSatisfied: applied !== null, eligible: 1, positions },
  };
}

/** The last commit that asks to be applied began at `lsn`. */
function look(lsn: bigint | null, situation: ApplySituation): void {
  alarm.look(() => {
    asked += 1;
    return { applyFeedbackLsn: lsn === null ? null : toLsn(lsn) };
  }, situation);
}

it('without a policy they are told once, where the first such commit is and what to do', () => {
  look(null, NO_POLICY);
  expect(alarm.detail).toBeNull();
  expect(lines).toEqual([]);
  for (const lsn of [0x3000100n, 0x3000200n]) look(lsn, NO_POLICY);
  expect(alarm.detail).toContain('the commit at 0/3000100');
  expect(alarm.detail).toContain('Set synchronous_commit to on');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('ERROR');
  // The second look was at the alarm that is raised.
  expect(asked).toBe(2);
});

it('under a policy whose standbys apply they are told nothing, and no record is looked at', () => {
  look(0x3000100n, under('a', 0x2f00000n));
  look(0x3000200n, under('a', null));
  expect(alarm.detail).toBeNull();
  expect(asked).toBe(0);
});

it('under a policy that chooses a receiver they are told, until a standby is chosen that applies', () => {
  look(0x3000100n, under('a', INVALID_LSN));
  expect(alarm.detail).toContain("synchronous_standby_names = 'a'");
  look(0x3000100n, under('a', 0x3000200n));
  expect(alarm.detail).toBeNull();
  // That commit was applied by whom was chosen then.
  look(0x3000100n, under('a', INVALID_LSN));
  expect(alarm.detail).toBeNull();
  look(0x3000300n, under('a', INVALID_LSN));
  expect(alarm.detail).toContain('0/3000300');
  expect(lines).toHaveLength(1);
});

it('a policy that is given ends the alarm; one that is taken away raises it for what was not applied by then', () => {
  look(0x3000100n, NO_POLICY);
  alarm.policyChanged();
  look(0x3000100n, under('a', 0x3000200n));
  expect(alarm.detail).toBeNull();
  alarm.policyChanged();
  look(0x3000100n, NO_POLICY);
  expect(alarm.detail).toBeNull();
  expect(lines).toHaveLength(1);
  look(0x3000300n, NO_POLICY);
  expect(alarm.detail).toContain('0/3000300');
  expect(lines).toHaveLength(2);
});
