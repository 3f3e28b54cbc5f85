// Does the log go on when nobody reads it, and does it lose nothing but what it says it lost?
import { describe, expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import { BoundedOutput } from '../../src/base/standard-error.ts';
import type { OutputDevice } from '../../src/base/standard-error.ts';
import { ManualClock } from '../support/manual-clock.ts';

const LINE = `${'x'.repeat(1023)}\n`;
/** More than is kept: 1 MiB. */
const TOO_MANY = 1100;
const KEPT = 1024;

/** A pipe that takes `room` bytes until somebody reads. */
class Pipe implements OutputDevice {
  room = 0;
  taken = '';
  error: string | null = null;

  writeNow(bytes: Uint8Array): number {
    if (this.error !== null) throw Object.assign(new Error(), { code: this.error });
    if (this.room === 0) throw Object.assign(new Error(), { code: 'EAGAIN' });
    const count = Math.min(this.room, bytes.length);
    this.taken += Buffer.from(bytes.subarray(0, count)).toString('latin1');
    this.room -= count;
    return count;
  }
}

/** A disk: what is given to it waits until `finish`. */
class Disk extends Pipe {
  #waiting: (() => void) | null = null;

  writeLater(bytes: Uint8Array, done: (error: Error | null, written: number) => void): void {
    expect(this.#waiting).toBeNull();
    this.#waiting = () => {
      if (this.error === null) done(null, this.writeNow(bytes));
      else done(Object.assign(new Error(), { code: this.error }), 0);
    };
  }

  get isBusy(): boolean {
    return this.#waiting !== null;
  }

  finish(): void {
    const finish = this.#waiting;
    this.#waiting = null;
    finish?.();
  }
}

function lines(text: string): string[] {
  expect(text === '' || text.endsWith('\n')).toBe(true);
  return text.split('\n').slice(0, -1);
}

describe('a pipe', () => {
  test('takes each line at once while somebody reads', () => {
    const pipe = new Pipe();
    pipe.room = 100;
    const output = new BoundedOutput(pipe, new ManualClock());
    output.write('one\n');
    expect(pipe.taken).toBe('one\n');
    output.write('two\n');
    expect(pipe.taken).toBe('one\ntwo\n');
  });

  test('gets the rest when it is read, in order, wherever a line was cut', () => {
    const texts = Array.from({ length: 20 }, (_, index) => `line ${index} ä\n`);
    const whole = Buffer.from(texts.join('')).toString('latin1');
    for (let room = 0; room < whole.length; room += 1) {
      const clock = new ManualClock();
      const pipe = new Pipe();
      const output = new BoundedOutput(pipe, clock);
      pipe.room = room;
      for (const text of texts) output.write(text);
      expect(pipe.taken).toBe(whole.slice(0, room));
      pipe.room = 7;
      clock.advance(1_000);
      expect(pipe.taken).toBe(whole.slice(0, room + 7));
      pipe.room = whole.length;
      clock.advance(1_000);
      expect(pipe.taken).toBe(whole);
      expect(clock.nextTimerMs()).toBeNull();
    }
  });

  test('is given whole lines up to the bound, and then told how many are missing', () => {
    const clock = new ManualClock();
    const pipe = new Pipe();
    const output = new BoundedOutput(pipe, clock);
    const told: number[] = [];
    output.onLost((count) => {
      told.push(count);
      output.write(`${count} lost\n`);
    });
    for (let count = 0; count < TOO_MANY; count += 1) output.write(LINE);
    clock.advance(60_000);
    expect(told).toEqual([]);
    pipe.room = Number.POSITIVE_INFINITY;
    clock.advance(1_000);
    output.write('and on\n');
    expect(told).toEqual([TOO_MANY - KEPT]);
    expect(lines(pipe.taken).slice(KEPT - 1)).toEqual([
      LINE.slice(0, -1),
      `${TOO_MANY - KEPT} lost`,
      'and on',
    ]);
  });

  test('that is read more slowly than is written is told what is missing before all is read', () => {
    const clock = new ManualClock();
    const pipe = new Pipe();
    const output = new BoundedOutput(pipe, clock);
    output.onLost((count) => output.write(`${count} lost\n`));
    for (let count = 0; count < TOO_MANY; count += 1) output.write(LINE);
    pipe.room = 600 * LINE.length;
    clock.advance(1_000);
    output.write('and on\n');
    pipe.room = (KEPT - 600) * LINE.length + 1_000;
    output.write(LINE);
    clock.advance(1_000);
    expect(pipe.taken.slice(KEPT * LINE.length)).toMatch(
      new RegExp(`^${TOO_MANY - KEPT} lost\nand on\n`),
    );
  });

  test.each(['EPIPE', 'EIO', 'ENOSPC'])(
    'that fails with %s is tried again now and then',
    (code) => {
      const clock = new ManualClock();
      const pipe = new Pipe();
      pipe.room = 1_000;
      pipe.error = code;
      const output = new BoundedOutput(pipe, clock);
      output.write('one\n');
      output.write('two\n');
      clock.advance(10_000);
      expect(output.flush(1_000)).toBe(false);
      pipe.error = null;
      clock.advance(1_000);
      expect(pipe.taken).toBe('one\ntwo\n');
    },
  );
});

describe('at the end', () => {
  test('everything is written that can be', () => {
    const pipe = new Pipe();
    const output = new BoundedOutput(pipe, new ManualClock());
    output.onLost((count) => output.write(`${count} lost\n`));
    for (let count = 0; count < TOO_MANY; count += 1) output.write(LINE);
    pipe.room = Number.POSITIVE_INFINITY;
    expect(output.flush(0)).toBe(true);
    expect(lines(pipe.taken)).toHaveLength(KEPT + 1);
  });

  test('a reader that does not read is waited for no longer than was said', () => {
    const clock = new ManualClock();
    const pipe = new Pipe();
    let tries = 0;
    const writeNow = (bytes: Uint8Array): number => {
      tries += 1;
      clock.skip(20);
      return pipe.writeNow(bytes);
    };
    const output = new BoundedOutput({ writeNow }, clock);
    output.write('one\n');
    const startMs = clock.nowMs();
    expect(output.flush(100)).toBe(false);
    expect(clock.nowMs() - startMs).toBe(100);
    expect(tries).toBe(6);
  });

  test('what a thread is writing is left to it, and what is behind it is written', () => {
    const disk = new Disk();
    disk.room = 1_000;
    const output = new BoundedOutput(disk, new ManualClock());
    output.write('one\n');
    output.write('two\n');
    expect(output.flush(100)).toBe(true);
    expect(disk.taken).toBe('two\n');
  });

  test('nothing is given to a disk that hangs', () => {
    const clock = new ManualClock();
    const disk = new Disk();
    disk.room = 1_000;
    const output = new BoundedOutput(disk, clock);
    output.write('one\n');
    output.write('two\n');
    clock.skip(5_000);
    expect(output.flush(100)).toBe(false);
    expect(disk.taken).toBe('');
  });
});

describe('a disk', () => {
  test('is written by one thread at a time, many lines at once', () => {
    const disk = new Disk();
    disk.room = Number.POSITIVE_INFINITY;
    const output = new BoundedOutput(disk, new ManualClock());
    for (const text of ['one\n', 'two\n', 'three\n']) output.write(text);
    disk.finish();
    expect(disk.taken).toBe('one\n');
    disk.finish();
    expect(disk.taken).toBe('one\ntwo\nthree\n');
    expect(disk.isBusy).toBe(false);
  });

  test('that is full loses lines only beyond the bound, and gets the others when it has room', () => {
    const clock = new ManualClock();
    const disk = new Disk();
    disk.error = 'ENOSPC';
    const output = new BoundedOutput(disk, clock);
    output.write('one\n');
    disk.finish();
    output.write('two\n');
    disk.error = null;
    disk.room = 1_000;
    clock.advance(1_000);
    disk.finish();
    disk.finish();
    expect(disk.taken).toBe('one\ntwo\n');
  });
});

test.each(['text', 'json'] as const)('a log in %s says how many lines are missing', (format) => {
  const clock = new ManualClock();
  const pipe = new Pipe();
  const log = openLog({ level: 'info', format, destination: new BoundedOutput(pipe, clock) });
  for (let count = 0; count < TOO_MANY; count += 1) log.info(LINE);
  pipe.room = Number.POSITIVE_INFINITY;
  clock.advance(1_000);
  log.info('and on');
  const [said, last] = lines(pipe.taken).slice(-2);
  expect(said).toMatch(/lines of the log were dropped/);
  const lost = /lines"?[:=](\d+)/.exec(said ?? '')?.[1];
  expect(lines(pipe.taken)).toHaveLength(TOO_MANY - Number(lost) + 2);
  expect(last).toMatch(/and on/);
});
