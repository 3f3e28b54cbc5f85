// Which slots count as left behind, and when may one be dropped: with numbers instead of clocks and servers.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  LEFT_SLOT_DROP_AFTER_MS,
  LEFT_SLOT_RETRY_MS,
  LEFT_SLOT_RETRY_MS_MAX,
  LEFT_SLOTS_MAX,
} from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { LEFT_SLOT_IN_USE_LOOKS, LeftSlots } from '../../src/walreceiver/left-slots.ts';
import type { UpstreamHost } from '../../src/walreceiver/upstream-target.ts';

const END = toLsn(0x5000000n);
const SYSTEM = '7301234567890123456';

function host(name: string): UpstreamHost {
  return { host: name, address: name, port: 5432, password: 'secret' };
}

function use(slots: LeftSlots, name: string, slot: string | null, nowMs: number): void {
  slots.used({ host: host(name), slot, systemIdentifier: SYSTEM }, nowMs);
}

function names(slots: LeftSlots): string[] {
  return slots.left().map((known) => `${known.host.host} ${known.slot} ${known.isOurs}`);
}

it('a slot counts as left when another host is followed, and no more when that one is followed again', () => {
  const slots = new LeftSlots();
  slots.created(host('a'), 's', SYSTEM);
  expect(names(slots)).toEqual([]);
  use(slots, 'a', 's', 0);
  expect(names(slots)).toEqual([]);
  use(slots, 'b', 's', 1);
  expect(names(slots)).toEqual(['a s true']);
  use(slots, 'a', 's', 2);
  expect(names(slots)).toEqual(['b s false']);
  use(slots, 'a', null, 3);
  expect(names(slots).toSorted()).toEqual(['a s true', 'b s false']);
  expect(slots.left().map((known) => known.host.password)).toEqual([null, null]);
});

it('a slot of ours is dropped once another host has been followed for a minute without a break', () => {
  const slots = new LeftSlots();
  slots.created(host('a'), 's', SYSTEM);
  use(slots, 'a', 's', 0);
  use(slots, 'b', 's', 1_000);
  expect(slots.nextDueAtMs()).toBe(1_000 + LEFT_SLOT_DROP_AFTER_MS);
  slots.idle(END);
  expect(slots.nextDueAtMs()).toBeNull();
  use(slots, 'b', 's', 30_000);
  const dueMs = 30_000 + LEFT_SLOT_DROP_AFTER_MS;
  expect(slots.due(dueMs - 1, dueMs)).toBeNull();
  expect(slots.due(dueMs, dueMs - 1)).toBeNull();
  expect(slots.due(dueMs, dueMs)).toMatchObject({ slot: 's' });
  slots.stalled(dueMs);
  expect(slots.due(dueMs, dueMs)).toBeNull();
  slots.dropped(host('a'), 's');
  expect(names(slots)).toEqual([]);
  expect(slots.nextDueAtMs()).toBeNull();
});

it('a host that cannot be asked is asked later, and later each time', () => {
  const slots = new LeftSlots();
  slots.created(host('a'), 's', SYSTEM);
  use(slots, 'b', 's', 0);
  const waits: number[] = [];
  for (let nowMs = LEFT_SLOT_DROP_AFTER_MS; waits.length < 8; nowMs = slots.nextDueAtMs() ?? 0) {
    slots.refused(host('a'), 's', nowMs);
    waits.push((slots.nextDueAtMs() ?? 0) - nowMs);
  }
  expect(waits.slice(0, 3)).toEqual([1, 2, 4].map((times) => times * LEFT_SLOT_RETRY_MS));
  expect(Math.max(...waits)).toBe(LEFT_SLOT_RETRY_MS_MAX);
});

it('slots of an earlier process are ours, but for one that turned out to be somebody else’s', () => {
  const slots = new LeftSlots();
  const known = {
    host: host('a'),
    slot: 's',
    systemIdentifier: SYSTEM,
    isOurs: true,
    releasedLsn: null,
  };
  slots.restore([known]);
  use(slots, 'b', 's', 0);
  expect(names(slots)).toEqual(['a s true']);
  slots.disowned(host('a'), 's');
  expect(names(slots)).toEqual(['a s false']);
  expect(slots.ours()).toEqual([]);
});

it('it is known how far a slot was used, until it is used again', () => {
  const slots = new LeftSlots();
  const released = (): unknown[] => slots.ours().map(({ releasedLsn }) => releasedLsn);
  slots.created(host('a'), 's', SYSTEM);
  slots.idle(END);
  expect(released()).toEqual([null]);
  use(slots, 'a', 's', 0);
  slots.idle(END);
  slots.idle(toLsn(0x6000000n));
  expect(released()).toEqual([END]);
  use(slots, 'b', 's', 0);
  slots.idle(toLsn(0x6000000n));
  expect(released()).toEqual([END]);
  use(slots, 'a', 's', 0);
  expect(released()).toEqual([null]);
});

it('a slot that is found in use again and again is somebody else’s', () => {
  const slots = new LeftSlots();
  slots.created(host('a'), 's', SYSTEM);
  use(slots, 'b', 's', 0);
  for (let look = 1; look < LEFT_SLOT_IN_USE_LOOKS; look += 1) {
    expect(slots.inUse(host('a'), 's', 60_000)).toBe(false);
  }
  expect(names(slots)).toEqual(['a s true']);
  expect(slots.inUse(host('a'), 's', 60_000)).toBe(true);
  expect(names(slots)).toEqual(['a s false']);
});

it('one server under two names has one slot, which is ours when it was made under either', () => {
  const slots = new LeftSlots();
  slots.created(host('a'), 's', SYSTEM);
  use(slots, '10.0.0.1', 's', 0);
  slots.sameAsPresent(host('a'), 's');
  expect(names(slots)).toEqual([]);
  use(slots, 'b', 's', 1);
  expect(names(slots)).toEqual(['10.0.0.1 s true']);
});

it('no more are kept than there is room for, and never at the cost of the one in use', () => {
  const slots = new LeftSlots();
  use(slots, 'present', 's', 0);
  for (let count = 0; count < 3 * LEFT_SLOTS_MAX; count += 1) {
    slots.created(host(`h${count}`), 's', SYSTEM);
  }
  expect(slots.left()).toHaveLength(LEFT_SLOTS_MAX - 1);
  use(slots, 'other', null, 0);
  expect(names(slots)).toContain('present s false');
});

it('whatever happens, only slots that were made here are dropped, never the one in use, never at once', () => {
  const step = fc.record({
    kind: fc.constantFrom('create', 'use', 'idle', 'drop', 'refuse'),
    name: fc.constantFrom('a', 'b', 'c'),
    afterMs: fc.integer({ min: 0, max: 100_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const slots = new LeftSlots();
      const created = new Set<string>();
      let [nowMs, sinceMs, present] = [0, Number.POSITIVE_INFINITY, ''];
      for (const { kind, name, afterMs } of steps) {
        nowMs += afterMs;
        if (kind === 'create') slots.created(host(name), 's', SYSTEM);
        if (kind === 'create') created.add(name);
        if (kind === 'use') use(slots, name, 's', nowMs);
        if (kind === 'use') [sinceMs, present] = [nowMs, name];
        if (kind === 'idle') slots.idle(END);
        if (kind === 'idle') sinceMs = Number.POSITIVE_INFINITY;
        if (kind === 'refuse') slots.refused(host(name), 's', nowMs);
        const due = slots.due(nowMs, nowMs);
        if (due === null) continue;
        expect(created).toContain(due.host.host);
        expect(due.host.host).not.toBe(present);
        expect(nowMs - sinceMs).toBeGreaterThanOrEqual(LEFT_SLOT_DROP_AFTER_MS);
        if (kind === 'drop') slots.dropped(due.host, 's');
        if (kind === 'drop') created.delete(due.host.host);
      }
    }),
    { numRuns: 300 },
  );
});
