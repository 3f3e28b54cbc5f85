// The same hostile bytes to a real server and to walcast in front of it: does the same come back? What may differ is listed,
// with a reason, and has to differ.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AUTH_CASES } from '../support/hostile-auth.ts';
import { COMMAND_CASES } from '../support/hostile-commands.ts';
import type { HostileCase } from '../support/hostile-case.ts';
import { DEVIATIONS } from '../support/hostile-deviations.ts';
import type { Deviation } from '../support/hostile-deviations.ts';
import { INVENTED_CASES } from '../support/hostile-inventions.ts';
import { HostileRig, runCases } from '../support/hostile-rig.ts';
import type { Answers } from '../support/hostile-rig.ts';
import { PASSWORD } from '../support/hostile-scram.ts';
import { STARTUP_CASES } from '../support/hostile-startup.ts';
import { STREAM_CASES } from '../support/hostile-stream.ts';
import { TLS_CASES } from '../support/hostile-tls.ts';
import { FULL_FAULTS, installedMajors } from '../support/requirements.ts';

const CASES: readonly HostileCase[] = [
  ...STARTUP_CASES,
  ...COMMAND_CASES,
  ...STREAM_CASES,
  ...AUTH_CASES,
  ...TLS_CASES,
  ...INVENTED_CASES,
];

/**
 * A middle and the newest server differ in what the catalogue is about: protocol 3.2, direct TLS. Server 13 would have
 * differences of its own: it speaks protocol 2, too, and waits for messages of any length.
 */
function hostileMajors(): number[] {
  return installedMajors().filter((major) =>
    FULL_FAULTS ? major > 13 : major === 15 || major === 18,
  );
}

function titleOf({ row, name }: HostileCase): string {
  return `${row} ${name}`;
}

function deviationOf(each: HostileCase, major: number): Deviation | undefined {
  return DEVIATIONS.find(
    (deviation) =>
      deviation.cases.includes(titleOf(each)) &&
      major >= (deviation.from ?? 0) &&
      major <= (deviation.to ?? 99),
  );
}

it('knows what each accepted difference is about', () => {
  const titles = CASES.map(titleOf);
  expect(new Set(titles).size).toBe(titles.length);
  expect(DEVIATIONS.flatMap(({ cases }) => cases).filter((each) => !titles.includes(each))).toEqual(
    [],
  );
  expect(DEVIATIONS.filter(({ postgres, walcast }) => postgres.join() === walcast.join())).toEqual(
    [],
  );
});

describe.each(hostileMajors())(
  'to hostile input PostgreSQL %i and walcast answer alike',
  (major) => {
    let rig: HostileRig;
    let answers: Map<HostileCase, Promise<Answers>>;

    beforeAll(async () => {
      rig = await HostileRig.open(major);
      answers = runCases(rig, CASES);
    });

    afterAll(async () => {
      await rig[Symbol.asyncDispose]();
    });

    it.each(CASES.map((each) => [titleOf(each), each] as const))('%s', async (_title, each) => {
      const said = await answers.get(each);
      const deviation = deviationOf(each, major);
      if (deviation === undefined) expect(said?.walcast).toEqual(said?.postgres);
      else {
        expect(said).toEqual({ postgres: deviation.postgres, walcast: deviation.walcast });
      }
      expect(said?.walcast.length).toBeGreaterThan(0);
    });

    it('and nothing of it is a problem of walcast, or a secret or a control character in its log', async () => {
      await Promise.allSettled(answers.values());
      const { relay } = rig;
      expect(relay.isRunning).toBe(true);
      expect(relay.problems()).toEqual([]);
      const lines = relay.log.filter((each) => each.includes('connection'));
      expect(lines.length).toBeGreaterThan(0);
      expect(lines.filter((each) => isUnprintable(each))).toEqual([]);
      expect(lines.filter((each) => each.includes(PASSWORD))).toEqual([]);
    });
  },
);

function isUnprintable(text: string): boolean {
  return Array.from(text).some((char) => char < ' ' || char === '\u007f');
}
