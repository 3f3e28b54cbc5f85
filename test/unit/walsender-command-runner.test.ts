// A command that waits for its turn in a crowd: what becomes of it when its client changes its mind meanwhile?
import { expect, it } from 'vitest';
import { CommandRunner } from '../../src/walsender/command-runner.ts';
import type { CommandHost } from '../../src/walsender/command-runner.ts';
import type { CommandContext } from '../../src/walsender/commands/command.ts';
import { MemoryFeed, MemorySlots } from '../support/memory-wal.ts';
import { summary } from '../support/raw-client.ts';
import { identityOf, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

const QUERY = 'Q'.charCodeAt(0);

class Host implements CommandHost {
  readonly slots = new MemorySlots();
  readonly turns: (() => void)[] = [];
  readonly answers: string[] = [];
  /** Others ask, too: a question waits for its turn. */
  isCrowded = false;
  readonly happened: string[] = [];

  commandContext(): CommandContext {
    return {
      pid: 7,
      user: 'replicator',
      identity: identityOf(18),
      settings: { applicationName: 'a', walSenderTimeoutMs: null, values: new Map() },
      walSenderTimeoutMs: 0,
      maxWalSenders: 10,
      ownSettings: new Map(),
      version: '0',
      isPaused: () => false,
      refusalToStay: () => null,
      takeOver: () => null,
      feed: new MemoryFeed(OLDEST_LSN, START_LSN),
      slots: this.slots,
    };
  }

  write(chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) {
      const frame = Buffer.from(chunk);
      this.answers.push(
        summary({ type: String.fromCharCode(frame[0] ?? 0), body: frame.subarray(5) }),
      );
    }
  }

  inTurn(piece: () => void): void {
    this.turns.push(piece);
  }

  askInTurn(piece: () => void): void {
    if (this.isCrowded) this.turns.push(piece);
    else piece();
  }

  onCommand(): void {}

  onStreamStart(): void {
    this.happened.push('stream');
  }

  onTunnelStart(): void {
    this.happened.push('tunnel');
  }

  onFatal(): void {
    this.happened.push('fatal');
  }

  onTerminate(): void {
    this.happened.push('terminate');
  }

  resumeReading(): void {
    this.happened.push('resume');
  }
}

function waiting(): { host: Host; runner: CommandRunner } {
  const host = new Host();
  const runner = new CommandRunner(host);
  runner.onMessage(QUERY, Buffer.from('START_REPLICATION 0/1234000\0'));
  expect([runner.isBusy, host.turns.length]).toEqual([true, 1]);
  return { host, runner };
}

it('begins when its turn comes, and then the client is listened to again', () => {
  const { host, runner } = waiting();
  host.turns[0]?.();
  expect(host.happened).toEqual(['stream', 'resume']);
  expect(runner.isBusy).toBe(false);
});

it('does not begin when it was cancelled before, as by the end of its client', () => {
  const { host, runner } = waiting();
  runner.cancel();
  host.turns[0]?.();
  expect(host.answers).toEqual(['E|ERROR|57014|canceling statement due to user request', 'Z I']);
  expect(host.happened).toEqual(['resume']);
  runner.onMessage(QUERY, Buffer.from('START_REPLICATION 0/1234000\0'));
  host.turns[1]?.();
  expect(host.happened).toEqual(['resume', 'stream', 'resume']);
});

it('is nothing any more when the session is over', () => {
  const { host, runner } = waiting();
  runner.close();
  host.turns[0]?.();
  expect([host.answers, host.happened]).toEqual([[], []]);
});

it('waits for its turn with what was said then, however often others ask', () => {
  const host = new Host();
  host.isCrowded = true;
  const runner = new CommandRunner(host);
  const body = Buffer.from('IDENTIFY_SYSTEM\0');
  runner.onMessage(QUERY, body);
  body.fill(0);
  expect([runner.isBusy, host.answers]).toEqual([true, []]);
  host.turns[0]?.();
  expect(host.answers.slice(-2)).toEqual(['C IDENTIFY_SYSTEM', 'Z I']);
  expect([runner.isBusy, host.happened]).toEqual([false, ['resume']]);
  runner.onMessage(QUERY, Buffer.from('IDENTIFY_SYSTEM\0'));
  runner.close();
  const before = host.answers.length;
  host.turns[1]?.();
  expect(host.answers).toHaveLength(before);
});
