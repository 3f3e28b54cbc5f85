// What all standbys together feed back: who counts, from when to when, what is durable before it is said, and what a restart
// may not lift.
import { describe, expect, it } from 'vitest';
import {
  FEEDBACK_GRACE_MS,
  FEEDBACK_NOTE_MS,
  FEEDBACK_SENT_MS_MIN,
} from '../../src/config/limits.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import { NOTHING_NOTED } from '../../src/relay/feedback-note.ts';
import type { FeedbackNoted } from '../../src/relay/feedback-note.ts';
import { StandbyFeedbackBook } from '../../src/relay/standby-feedback.ts';
import type { FeedbackSettings } from '../../src/relay/standby-feedback.ts';
import { slotXmins } from '../../src/slot/slot-xmins.ts';
import type { HeldXmins } from '../../src/slot/slot-xmins.ts';
import { wireXmins } from '../../src/syncrep/feedback.ts';
import type { StandbyFeedback } from '../../src/walsender/ports.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

const EPOCH = 1n << 32n;

/** Slots in memory whose saving a test lets go on. */
class FakeSlots {
  readonly xmins = new Map<string, Xmins>();
  /** Names of those that go with their session. */
  readonly temporary = new Set<string>();
  readonly order: string[];

  constructor(order: string[]) {
    this.order = order;
  }

  feedBack(name: string, said: Xmins, nextXid: bigint | null): void {
    this.xmins.set(name, slotXmins(this.xmins.get(name) ?? NO_XMINS, said, nextXid));
  }

  *held(): Generator<HeldXmins> {
    for (const [name, xmins] of this.xmins) {
      yield { name, isTemporary: this.temporary.has(name), ...xmins };
    }
  }

  async saved(): Promise<void> {
    this.order.push('slots');
  }
}

/** A file in memory. */
class FakeNote {
  saved: FeedbackNoted;
  wanted: FeedbackNoted;
  isBroken = false;
  /** Until it resolves, nothing that is saved is on the disk. */
  disk: Promise<void> = Promise.resolve();
  readonly order: string[];

  constructor(order: string[], noted: FeedbackNoted) {
    this.order = order;
    this.saved = noted;
    this.wanted = noted;
  }

  async load(): Promise<FeedbackNoted> {
    return this.saved;
  }

  async save(noted: FeedbackNoted): Promise<void> {
    this.order.push('note');
    this.wanted = noted;
    await this.disk;
    if (!this.isBroken) this.saved = this.wanted;
  }

  /** The disk does not answer until what this returns is called. */
  hang(): () => void {
    let answer = (): void => {};
    this.disk = new Promise((resolve) => {
      answer = resolve;
    });
    return () => answer();
  }

  async close(): Promise<void> {
    this.order.push('closed');
  }
}

class Rig {
  readonly order: string[] = [];
  readonly clock = new ManualClock();
  readonly log = new LogRecord();
  readonly slots = new FakeSlots(this.order);
  readonly note: FakeNote;
  readonly book: StandbyFeedbackBook;
  settings: FeedbackSettings = { isOn: true, maxXminAge: null };
  nextXid: bigint | null = 10_000n;
  changes = 0;

  constructor(noted: FeedbackNoted) {
    this.note = new FakeNote(this.order, noted);
    this.book = new StandbyFeedbackBook({
      clock: this.clock,
      log: this.log,
      settings: () => this.settings,
      nextXid: () => this.nextXid,
      slots: () => this.slots,
      note: this.note,
      onChanged: () => {
        this.changes += 1;
      },
    });
  }

  static async start(noted: FeedbackNoted = NOTHING_NOTED): Promise<Rig> {
    const rig = new Rig(noted);
    await rig.book.load();
    return rig;
  }

  standby(applicationName: string, slot: string | null = null): Standby {
    const feedback = this.book.open({ pid: 1, applicationName });
    feedback.begin(slot);
    return new Standby(feedback);
  }

  /** What is said once everything that has to be durable first is, and it counts as sent. */
  async said(): Promise<Xmins | null> {
    if (this.book.feedback() === null) await new Promise((resolve) => setImmediate(resolve));
    const feedback = this.book.feedback();
    if (feedback === null) return null;
    const { xmin, catalogXmin } = feedback;
    this.book.onSent({ xmin, catalogXmin });
    return { xmin, catalogXmin };
  }
}

class Standby {
  readonly feedback: StandbyFeedback;

  constructor(feedback: StandbyFeedback) {
    this.feedback = feedback;
  }

  says(xmin: bigint | null, catalogXmin: bigint | null = null): void {
    this.feedback.take({ sendTime: toPgTimestamp(0n), ...wireXmins({ xmin, catalogXmin }, 0n) });
  }
}

const at = (xmin: bigint | null, catalogXmin: bigint | null = null): Xmins => ({
  xmin,
  catalogXmin,
});

describe('contributions', () => {
  it('are a minimum, of xmin and catalog_xmin apart, which another standby does not lift', async () => {
    const rig = await Rig.start();
    const [a, b] = [rig.standby('a'), rig.standby('b', 'slot_b')];
    a.says(700n, 650n);
    expect(await rig.said()).toEqual(at(700n, 650n));
    b.says(900n, 600n);
    expect(await rig.said()).toEqual(at(700n, 600n));
    expect(rig.book.status()).toMatchObject({ xmin: 700n, catalogXmin: 600n, heldBy: 'a' });
    a.says(950n);
    expect(await rig.said()).toEqual(at(900n, 600n));
    expect(rig.book.status()).toMatchObject({ heldBy: 'slot_b' });
  });

  it('of a session go with it, those of a slot stay', async () => {
    const rig = await Rig.start();
    const [a, b] = [rig.standby('a'), rig.standby('b', 'slot_b')];
    a.says(700n);
    b.says(800n);
    expect(await rig.said()).toEqual(at(700n));
    a.feedback.close();
    b.feedback.close();
    expect(await rig.said()).toEqual(at(800n));
    rig.slots.xmins.clear();
    expect(await rig.said()).toEqual(NO_XMINS);
  });

  it('of a session stay over the streams of it, also when the next one uses a slot', async () => {
    const rig = await Rig.start();
    const a = rig.standby('a');
    a.says(700n);
    a.feedback.begin('slot_a');
    expect(await rig.said()).toEqual(at(700n));
    a.says(710n);
    expect(await rig.said()).toEqual(at(710n));
    a.feedback.close();
    expect(await rig.said()).toEqual(at(710n));
  });

  it('end when the standby turns its feedback off', async () => {
    const rig = await Rig.start();
    const [a, b] = [rig.standby('a'), rig.standby('b', 'slot_b')];
    a.says(700n);
    b.says(600n);
    b.says(null);
    expect(await rig.said()).toEqual(at(700n));
    a.says(null);
    expect(await rig.said()).toEqual(NO_XMINS);
    expect(a.feedback.status()).toEqual({
      xmin: null,
      catalogXmin: null,
      state: 'none',
      xminAge: null,
    });
  });

  it('are of no avail while feedback is off, and there again when it is on', async () => {
    const rig = await Rig.start();
    rig.standby('a').says(700n);
    expect(await rig.said()).toEqual(at(700n));
    rig.settings = { isOn: false, maxXminAge: null };
    expect(await rig.said()).toEqual(NO_XMINS);
    expect(rig.book.status().isOn).toBe(false);
    // Said once only: what is not noted now would be taken up after a crash, however old it was.
    expect(rig.note.saved.xmins).toEqual(NO_XMINS);
    rig.settings = { isOn: true, maxXminAge: null };
    expect(await rig.said()).toEqual(at(700n));
  });
});

describe('a message that cannot be', () => {
  it('changes nothing, is counted, and is told of once', async () => {
    const rig = await Rig.start();
    const a = rig.standby('liar');
    a.says(700n);
    for (const xmin of [10_001n, 11_000n]) a.says(xmin);
    expect(await rig.said()).toEqual(at(700n));
    rig.nextXid = EPOCH;
    a.says(EPOCH - (1n << 31n));
    expect(a.feedback.status()).toMatchObject({ xmin: 700n, state: 'invalid' });
    expect(rig.book.status().ignored).toEqual({ future: 2, past: 1 });
    expect(rig.log.lines.filter((line) => line.includes('in the future'))).toHaveLength(1);
    a.says(EPOCH - 5n);
    expect(a.feedback.status()).toMatchObject({ state: 'counted', xminAge: 5 });
  });

  it('fills no disk with lines, however often it comes in between', async () => {
    const rig = await Rig.start();
    rig.settings = { isOn: true, maxXminAge: 1_000n };
    const [liar, honest] = [rig.standby('liar'), rig.standby('honest')];
    honest.says(9_500n);
    for (let turn = 0; turn < 1_000; turn += 1) {
      for (const xmin of [9_600n, 20_000n, 8_000n]) {
        liar.says(xmin);
        expect(await rig.said()).toEqual(at(9_500n));
      }
    }
    expect(rig.log.lines.length).toBeLessThan(50);
    expect(rig.book.status().ignored.future).toBe(1_000);
  });

  it('takes nobody else’s protection away, and gives none', async () => {
    const rig = await Rig.start();
    rig.standby('honest').says(700n);
    const liar = rig.standby('liar', 'slot_liar');
    liar.says(10_001n);
    expect(await rig.said()).toEqual(at(700n));
    expect(rig.slots.xmins.size).toBe(0);
    expect(liar.feedback.status()).toMatchObject({ xmin: null, state: 'invalid' });
  });
});

describe('while the next transaction id is not known', () => {
  it('nothing is said, nothing is cleared, and what was told waits', async () => {
    const rig = await Rig.start();
    rig.nextXid = null;
    const a = rig.standby('a');
    a.says(700n);
    expect(await rig.said()).toBeNull();
    expect(a.feedback.status()).toMatchObject({ state: 'unknown' });
    rig.nextXid = 800n;
    expect(await rig.said()).toEqual(at(700n));
    expect(a.feedback.status()).toMatchObject({ state: 'counted', xminAge: 100 });
  });

  it('is cleared all the same when feedback is turned off', async () => {
    const rig = await Rig.start();
    rig.nextXid = null;
    rig.settings = { isOn: false, maxXminAge: null };
    expect(await rig.said()).toEqual(NO_XMINS);
  });
});

describe('an id that is too old', () => {
  it('is left out, shown, and told of once for each change', async () => {
    const rig = await Rig.start();
    rig.settings = { isOn: true, maxXminAge: 1_000n };
    const [slow, good] = [rig.standby('slow'), rig.standby('good')];
    slow.says(8_999n);
    good.says(9_500n);
    for (let look = 0; look < 3; look += 1) expect(await rig.said()).toEqual(at(9_500n));
    expect(slow.feedback.status()).toMatchObject({ state: 'too_old', xminAge: 1_001 });
    expect(rig.book.status()).toMatchObject({ leftOut: 1, heldBy: 'good' });
    slow.says(9_100n);
    for (let look = 0; look < 3; look += 1) expect(await rig.said()).toEqual(at(9_100n));
    rig.nextXid = 10_101n;
    expect(await rig.said()).toEqual(at(9_500n));
    const told = (text: string): number =>
      rig.log.lines.filter((line) => line.includes(text)).length;
    expect([told('is too old'), told('counts in the feedback again')]).toEqual([2, 1]);
  });

  it('of half a turn is left out for good, because an upstream would drop the whole message', async () => {
    const rig = await Rig.start();
    rig.slots.xmins.set('ancient', at(700n));
    rig.nextXid = 700n + (1n << 31n);
    rig.standby('a').says(rig.nextXid);
    expect(await rig.said()).toEqual(at(rig.nextXid));
  });
});

describe('before a minimum appears or gets older upstream', () => {
  it('slots are saved, then it is noted, and only then it is said', async () => {
    const rig = await Rig.start();
    rig.standby('a', 'slot_a').says(700n);
    expect(rig.book.feedback()).toBeNull();
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.order).toEqual(['slots', 'note']);
    expect(rig.note.saved.xmins).toEqual(at(700n));
    expect(rig.changes).toBeGreaterThan(1);
    expect(rig.book.feedback()).toMatchObject(at(700n));
  });

  it('a disk that takes nothing delays it only once', async () => {
    const rig = await Rig.start();
    rig.note.isBroken = true;
    const a = rig.standby('a');
    a.says(700n);
    expect(await rig.said()).toEqual(at(700n));
    a.says(600n);
    expect(await rig.said()).toEqual(at(600n));
  });

  it('one that gets older all the time keeps nobody else from being heard, nor the disk busy', async () => {
    const rig = await Rig.start();
    const liar = rig.standby('liar');
    liar.says(9_000n);
    expect(await rig.said()).toEqual(at(9_000n));
    rig.clock.advance(FEEDBACK_SENT_MS_MIN);
    const notes = (): number => rig.order.filter((what) => what === 'note').length;
    const before = notes();
    let heard = 0;
    for (let xmin = 8_999n; xmin > 8_900n; xmin -= 1n) {
      liar.says(xmin);
      heard += rig.book.feedback() === null ? 0 : 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(heard).toBe(98);
    expect(notes()).toBe(before + 1);
    rig.clock.advance(FEEDBACK_SENT_MS_MIN);
    expect(await rig.said()).toEqual(at(8_901n));
    expect(rig.note.saved.xmins).toEqual(at(8_901n));
  });

  it('a disk that does not answer delays it by a second only', async () => {
    const rig = await Rig.start();
    const answer = rig.note.hang();
    rig.standby('a').says(700n);
    expect(await rig.said()).toBeNull();
    rig.clock.advance(FEEDBACK_SENT_MS_MIN);
    expect(await rig.said()).toEqual(at(700n));
    rig.standby('b').says(600n);
    expect(await rig.said()).toEqual(at(600n));
    answer();
    await new Promise((done) => setImmediate(done));
    expect(await rig.said()).toEqual(at(600n));
    expect(rig.note.saved).toEqual({ xmins: at(600n), standbys: ['a', 'b'] });
  });

  it('a note of a later one that is still on its way to the disk does not count', async () => {
    const rig = await Rig.start();
    const a = rig.standby('a');
    a.says(700n);
    await rig.said();
    const answer = rig.note.hang();
    rig.clock.advance(FEEDBACK_NOTE_MS);
    a.says(900n);
    await rig.said();
    rig.standby('b').says(800n);
    const early = rig.book.feedback();
    answer();
    await new Promise((done) => setImmediate(done));
    expect(early).toBeNull();
    expect(await rig.said()).toEqual(at(800n));
    expect(rig.note.saved).toEqual({ xmins: at(800n), standbys: ['a', 'b'] });
  });

  it('one that moves forward is noted a while later, so that a crash holds more', async () => {
    const rig = await Rig.start();
    const a = rig.standby('a');
    a.says(700n);
    await rig.said();
    a.says(800n);
    await rig.said();
    expect(rig.note.saved).toEqual({ xmins: at(700n), standbys: ['a'] });
    rig.clock.advance(FEEDBACK_NOTE_MS);
    await rig.said();
    expect(rig.note.saved).toEqual({ xmins: at(800n), standbys: ['a'] });
  });
});

describe('after a restart', () => {
  const noted = (standbys: readonly string[] | null): FeedbackNoted => ({
    xmins: at(700n, 650n),
    standbys,
  });

  it('what was said last counts until all who needed it are back', async () => {
    const rig = await Rig.start(noted(['a', 'a', 'b']));
    expect(await rig.said()).toEqual(at(700n, 650n));
    expect(rig.book.status().heldBy).toBe('(before the restart)');
    const a = rig.standby('a');
    a.says(900n);
    a.says(901n);
    a.says(900n);
    rig.standby('b').says(null);
    expect(await rig.said()).toEqual(at(700n, 650n));
    rig.standby('a').says(950n);
    expect(await rig.said()).toEqual(at(900n));
  });

  it('one that comes, goes and comes is not another one of that name', async () => {
    const rig = await Rig.start(noted(['a', 'a']));
    for (let time = 0; time < 2; time += 1) {
      const flapping = rig.standby('a');
      flapping.says(900n);
      expect(await rig.said()).toEqual(at(700n, 650n));
      flapping.feedback.close();
    }
    const both = [rig.standby('a'), rig.standby('a')];
    for (const standby of both) standby.says(900n);
    expect(await rig.said()).toEqual(at(900n));
  });

  it('it is known of each who came shortly before, also where nothing is said again for long', async () => {
    const rig = await Rig.start();
    rig.standby('a').says(700n);
    await rig.said();
    rig.standby('b').says(800n);
    await rig.said();
    const before = rig.changes;
    rig.clock.advance(FEEDBACK_SENT_MS_MIN);
    // Somebody asks for a look, which is all that there is until the interval is over.
    expect(rig.changes).toBe(before + 1);
    await rig.said();
    expect(rig.note.saved).toEqual({ xmins: at(700n), standbys: ['a', 'b'] });
  });

  it('or had their time, counted from the first stream', async () => {
    const rig = await Rig.start(noted(['gone']));
    rig.clock.advance(10 * FEEDBACK_GRACE_MS);
    expect(await rig.said()).toEqual(at(700n, 650n));
    rig.clock.advance(FEEDBACK_GRACE_MS - 1);
    expect(await rig.said()).toEqual(at(700n, 650n));
    rig.clock.advance(1);
    expect(await rig.said()).toEqual(NO_XMINS);
  });

  it('it is held for all that time where it is not known who needed it', async () => {
    const rig = await Rig.start({ xmins: NO_XMINS, standbys: null });
    expect(await rig.said()).toBeNull();
    rig.standby('a').says(900n);
    expect(await rig.said()).toEqual(at(900n));
    rig.clock.advance(FEEDBACK_GRACE_MS);
    expect(await rig.said()).toEqual(at(900n));
  });

  it('another one still knows who is not back', async () => {
    const rig = await Rig.start(noted(['b', 'x']));
    rig.standby('a').says(900n);
    await rig.said();
    rig.clock.advance(FEEDBACK_NOTE_MS);
    await rig.said();
    expect(rig.note.saved).toEqual({ xmins: at(700n, 650n), standbys: ['a', 'b', 'x'] });
  });

  it('those are waited for, too, whose slot was a temporary one', async () => {
    const rig = await Rig.start();
    rig.slots.temporary.add('temporary');
    rig.standby('a', 'temporary').says(700n);
    rig.standby('b', 'slot_b').says(800n);
    expect(await rig.said()).toEqual(at(700n));
    expect(rig.note.saved).toEqual({ xmins: at(700n), standbys: ['a'] });
  });

  it('slots count by themselves: nobody waits for their owners', async () => {
    const rig = await Rig.start({ xmins: at(700n), standbys: [] });
    rig.slots.xmins.set('slot_a', at(750n));
    expect(await rig.said()).toEqual(at(750n));
  });

  it('feedback that is off is said to be off at once', async () => {
    const rig = await Rig.start(noted(null));
    rig.settings = { isOn: false, maxXminAge: null };
    expect(await rig.said()).toEqual(NO_XMINS);
    // What was let go of is not taken up again.
    rig.settings = { isOn: true, maxXminAge: null };
    expect(await rig.said()).toEqual(NO_XMINS);
  });
});

describe('at the end', () => {
  it('who has left because of us stays noted, also when something is noted in between', async () => {
    const rig = await Rig.start();
    const a = rig.standby('a');
    a.says(700n);
    await rig.said();
    a.says(800n);
    await rig.said();
    rig.book.freeze();
    a.feedback.close();
    rig.clock.advance(FEEDBACK_NOTE_MS);
    expect(await rig.said()).toEqual(at(800n));
    expect(rig.note.saved).toEqual({ xmins: at(800n), standbys: ['a'] });
  });

  it('standbys that leave because of us lift nothing, and the note says what was said last', async () => {
    const rig = await Rig.start();
    const [a, b] = [rig.standby('a'), rig.standby('b')];
    a.says(700n);
    b.says(800n);
    await rig.said();
    rig.book.freeze();
    a.feedback.close();
    expect(await rig.said()).toEqual(at(700n));
    b.feedback.close();
    expect(await rig.said()).toEqual(at(700n));
    await rig.book.close();
    expect(rig.note.saved).toEqual({ xmins: at(700n), standbys: ['a', 'b'] });
    expect(rig.order.at(-1)).toBe('closed');
  });
});

it('a stop notes also who came a moment before it', async () => {
  const rig = await Rig.start();
  const a = rig.standby('a');
  a.says(700n);
  await rig.said();
  const b = rig.standby('b');
  b.says(800n);
  await rig.said();
  rig.book.freeze();
  for (const standby of [a, b]) standby.feedback.close();
  // A stop behind a drain.
  rig.book.freeze();
  await rig.book.close();
  expect(rig.note.saved).toEqual({ xmins: at(700n), standbys: ['a', 'b'] });
  expect(rig.clock.nextTimerMs()).toBeNull();
});

it('a slot that holds what another timeline has not come to yet is moved back by its standby', async () => {
  const rig = await Rig.start();
  const a = rig.standby('a', 'slot_a');
  a.says(9_990n);
  expect(await rig.said()).toEqual(at(9_990n));
  rig.nextXid = 9_950n;
  a.says(9_900n);
  expect(await rig.said()).toEqual(at(9_900n));
});

describe('a thousand standbys', () => {
  it('ask for a look when they come, go or hold more, not each time they say something', async () => {
    const rig = await Rig.start();
    const standbys = Array.from({ length: 1_000 }, (_, index) => rig.standby(`s${index}`));
    for (const [index, standby] of standbys.entries()) standby.says(5_000n + BigInt(index));
    expect(await rig.said()).toEqual(at(5_000n));
    const before = rig.changes;
    for (const [index, standby] of standbys.entries()) standby.says(6_000n + BigInt(index));
    expect(rig.changes).toBe(before);
    expect(await rig.said()).toEqual(at(6_000n));
    standbys[500]?.says(5_500n);
    expect(rig.changes).toBe(before + 1);
    expect(await rig.said()).toEqual(at(5_500n));
    const noted = rig.changes;
    standbys[500]?.says(null);
    standbys[501]?.feedback.close();
    standbys[500]?.feedback.close();
    expect(rig.changes).toBe(noted + 2);
  });
});
