// People are told once that commits wait for what walcast never reports.
import { describe, expect, it } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { ApplyAlarm } from '../../src/relay/apply-alarm.ts';

describe('a commit that waits to be applied', () => {
  it('raises an alarm once, says where it is and what to do', () => {
    const lines: string[] = [];
    const destination = { write: (line: string) => void lines.push(line) };
    const alarm = new ApplyAlarm(openLog({ level: 'warn', format: 'text', destination }));
    alarm.look(() => ({ applyFeedbackLsn: null }));
    expect(alarm.detail).toBeNull();
    expect(lines).toEqual([]);
    let asked = 0;
    for (const lsn of [0x3000100n, 0x3000200n]) {
      alarm.look(() => {
        asked += 1;
        return { applyFeedbackLsn: toLsn(lsn) };
      });
    }
    expect(alarm.detail).toContain('the commit at 0/3000100');
    expect(alarm.detail).toContain('Set synchronous_commit to on');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('ERROR');
    expect(asked).toBe(1);
  });
});
