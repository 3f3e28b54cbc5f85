// Does a session of the console take turns with others, whatever it sends?
import { beforeEach, expect, it } from 'vitest';
import { SessionConsole } from '../../src/walsender/console-part.ts';
import { ManualClock } from '../support/manual-clock.ts';

let waiting: (() => void)[];
let isFull: boolean;
let events: string[];
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
  const session = {
    onMessage: (type: number, body: Uint8Array) => {
      events.push(`${String.fromCharCode(type)} ${body.join()}`);
      return type === 0x58 ? ('terminated' as const) : ('open' as const);
    },
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
  expect(events).toEqual(['X 1,2', 'terminate']);
});
