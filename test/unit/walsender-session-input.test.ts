// How much of a client is kept while its commands wait for their turn?
import { expect, it } from 'vitest';
import { HELD_INPUT_BYTES_MAX } from '../../src/config/limits.ts';
import type { AcceptedConnection } from '../../src/net/connection.ts';
import { SessionInput } from '../../src/walsender/session-input.ts';
import type { InputHost } from '../../src/walsender/session-input.ts';
import { query } from '../support/raw-client.ts';

/** A session whose every command waits, and a client that never stops sending. */
class Host implements InputHost {
  isReading = true;
  isWaiting = false;
  commands = 0;

  readonly #connection: Pick<AcceptedConnection, 'pauseReading' | 'resumeReading'> = {
    pauseReading: () => {
      this.isReading = false;
    },
    resumeReading: () => {
      this.isReading = true;
    },
  };

  phase(): 'command' {
    return 'command';
  }

  connection(): AcceptedConnection {
    return this.#connection as AcceptedConnection;
  }

  onMessage(): void {
    this.commands += 1;
    this.isWaiting = true;
  }

  onFrameFailure(): void {
    throw new Error('what was sent is in order');
  }

  isBusy(): boolean {
    return this.isWaiting;
  }

  isHeld(): boolean {
    return false;
  }

  cancelCommand(): void {}

  onInputOver(): void {}
}

it('is not more with every command that was answered, though the client sends without a pause', () => {
  const host = new Host();
  const input = new SessionInput(host);
  const chunk = Buffer.concat(Array.from({ length: 1_000 }, () => query('IDENTIFY_SYSTEM')));
  let taken = 0;
  for (let turn = 0; turn < 300; turn += 1) {
    if (host.isReading) {
      input.onBytes(chunk);
      taken += 1_000;
    }
    // What it was answered before has been taken, and its next command waits.
    input.continue();
    host.isWaiting = false;
    input.continue();
  }
  expect(host.commands).toBeGreaterThanOrEqual(300);
  expect(taken - host.commands).toBeLessThanOrEqual(
    1_000 * (2 + HELD_INPUT_BYTES_MAX / chunk.length),
  );
});

it('is read on behind the last of many commands, so that the end of the client is noticed while that waits', () => {
  const host = new Host();
  const input = new SessionInput(host);
  const chunk = Buffer.concat(Array.from({ length: 1_000 }, () => query('IDENTIFY_SYSTEM')));
  input.onBytes(chunk);
  input.onBytes(chunk);
  expect(host.isReading).toBe(false);
  while (host.commands < 2_000) {
    host.isWaiting = false;
    input.continue();
  }
  expect([host.isWaiting, host.isReading]).toEqual([true, true]);
});
