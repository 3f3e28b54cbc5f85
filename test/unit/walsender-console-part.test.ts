// Does a session of the console take turns with others, whatever it sends?
import { beforeEach, expect, it } from 'vitest';
import { SessionConsole } from '../../src/walsender/console-part.ts';
import type { ConsoleOutcome } from '../../src/walsender/ports.ts';
import { deferred } from '../support/deferred.ts';
import { ManualClock } from '../support/manual-clock.ts';

let waiting: (() => void)[];
let isFull: boolean;
let events: string[];
/** What a message has to wait for; null: nothing. */
let answer: ReturnType<typeof deferred<ConsoleOutcome>> | null;
let part: SessionConsole;

beforeEach(() => {
  waiting = [];
  isFull = true;
  events = [];
  const host = {
    write: () => events.push('write'),
    pendingBytes: () => 0,
    refuse: () => events.push('refuse'),
    onTerminate: () => events.push('terminate'),
    askInTurn: (piece: () => void) => {
      if (isFull) waiting.push(piece);
      else piece();
    },
    resumeReading: () => events.push('resume'),
    onSilent: () => events.push('silent'),
  };
  answer = null;
  const session = {
    onMessage: (type: number, body: Uint8Array) => {
      events.push(`${String.fromCharCode(type)} ${body.join()}`);
      if (answer !== null) return answer.promise;
      return type === 0x58 ? ('terminated' as const) : ('open' as const);
    },
    cancel: () => events.push('cancel'),
    close: () => events.push('close'),
  };
  part = new SessionConsole(host, session, new ManualClock());
});

function send(letter: string): Uint8Array {
  const body = Uint8Array.of(1, 2);
  part.onMessage(letter.charCodeAt(0), body);
  return body;
}

it.each('Q P B D E C H S F d c f p ~'.split(' '))(
  'waits with %s for its turn, and keeps the message',
  (letter) => {
    // The bytes belong to the connection again as soon as the call is over.
    send(letter).fill(9);
    expect(part.isBusy).toBe(true);
    expect(events).toEqual([]);
    for (const piece of waiting) piece();
    expect(part.isBusy).toBe(false);
    expect(events).toEqual([`${letter} 1,2`, 'resume']);
  },
);

it('goes on at once where nobody waits', () => {
  isFull = false;
  send('S');
  expect(part.isBusy).toBe(false);
  expect(events).toEqual(['S 1,2']);
});

it('lets a client go at once, and answers nobody who has gone', () => {
  send('Q');
  part.close();
  for (const piece of waiting) piece();
  send('X');
  expect(events).toEqual(['close', 'X 1,2', 'terminate']);
});

it('hands nothing over while a message waits for what it asked for, and goes on when that is done', async () => {
  isFull = false;
  answer = deferred();
  send('Q');
  expect([part.isBusy, events]).toEqual([true, ['Q 1,2']]);
  part.cancel();
  expect([part.isBusy, events.pop()]).toEqual([true, 'cancel']);
  answer.resolve('open');
  await answer.promise;
  expect([part.isBusy, events]).toEqual([false, ['Q 1,2', 'resume']]);
});

it('goes on only once with a message that waited for its turn, and then for what it asked for', async () => {
  answer = deferred();
  send('Q');
  for (const piece of waiting) piece();
  expect([part.isBusy, events]).toEqual([true, ['Q 1,2']]);
  answer.resolve('open');
  await answer.promise;
  expect(events).toEqual(['Q 1,2', 'resume']);
});

it('does nothing for one who has gone while something was waited for', async () => {
  isFull = false;
  answer = deferred();
  send('Q');
  part.close();
  part.close();
  answer.resolve({ sqlstate: 'XX000', message: 'too late' });
  await answer.promise;
  expect(events).toEqual(['Q 1,2', 'close']);
});

it('ends the session with what a message that had to wait came to', async () => {
  isFull = false;
  answer = deferred();
  send('Q');
  answer.resolve({ sqlstate: 'XX000', message: 'broken' });
  await answer.promise;
  expect(events).toEqual(['Q 1,2', 'refuse', 'resume']);
});
