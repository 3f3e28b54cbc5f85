// What a server says while old WAL is read through from it for a standby: whatever it is, the standby gets the WAL or none.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { silentLog } from '../../../src/base/log.ts';
import { advanceLsn, formatLsn, toLsn } from '../../../src/pg/lsn.ts';
import { chainStart } from '../../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../../src/wal/records/record-walk.ts';
import { ReadThrough } from '../../../src/walreceiver/read-through.ts';
import type { ReadThroughReader } from '../../../src/walreceiver/read-through-reader.ts';
import {
  answer,
  COPY_BOTH,
  playedServer,
  READY,
  walData,
} from '../../support/scripted-upstream.ts';
import { raw } from '../../support/naive-writer.ts';
import { targetFor } from '../../support/upstream-target.ts';
import { WalFixture } from '../../support/wal-fixture.ts';
import { amountOf, happens, say } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { FuzzTarget, TargetRun } from '../engine/target.ts';
import { FakeUpstream } from '../rig/fake-upstream.ts';
import { FuzzClock } from '../rig/fuzz-clock.ts';
import { cut, greeting, UPSTREAM } from './upstream.ts';

const TIME_MS_MAX = 30_000;
const WANTED_BYTES = 24_576;
const MESSAGE_BYTES = 4_000;

const WAL = new WalFixture({ major: 15 });
WAL.fill(2 * WANTED_BYTES);
const BYTES = WAL.slice(WAL.startLsn, advanceLsn(WAL.startLsn, WANTED_BYTES));
const LIMIT_LSN = advanceLsn(WAL.startLsn, WANTED_BYTES);

const SERVER = playedServer({
  systemIdentifier: WAL.systemIdentifier,
  serverVersion: '15.4',
  xlogPos: formatLsn(WAL.endLsn),
});
SERVER.settings['wal_segment_size'] = '1MB';

const HOST = { host: 'a', address: 'a', port: 5432, password: null };

/** One standby that wants old WAL. */
class ReadThroughRig {
  readonly clock = new FuzzClock();
  readonly upstream: FakeUpstream;
  readonly #readThrough: ReadThrough;
  readonly #reader: ReadThroughReader | null;
  #at = 0;

  constructor(checksums: boolean, onWritten: (chunk: Buffer) => void = () => {}) {
    this.upstream = new FakeUpstream(this.clock, onWritten);
    this.#readThrough = this.#open(checksums);
    this.#reader = this.#readThrough.open({
      timeline: WAL.history.timeline,
      startLsn: WAL.startLsn,
      limitLsn: LIMIT_LSN,
      onReady: () => {},
    });
  }

  get taken(): number {
    return this.#at;
  }

  async play({ steps, chunk }: FuzzSession): Promise<number> {
    let count = 0;
    for (const { kind, bytes } of steps) {
      if (kind === 'say') {
        if (!(await this.upstream.say(bytes, chunk))) break;
        count += 1;
        continue;
      }
      if (kind === 'time') this.clock.advance(amountOf({ kind, bytes }, TIME_MS_MAX));
      if (kind === 'end') this.upstream.current?.lose(null);
      for (let turn = 0; turn < 2; turn += 1) await nextTurn();
      this.take();
    }
    this.take();
    return count;
  }

  /** What may be given to the standby is the WAL of that place. */
  take(): void {
    for (;;) {
      const piece = this.#reader?.take(LIMIT_LSN) ?? null;
      if (piece === null || 'kind' in piece) return;
      for (const view of piece.views) {
        const expected = BYTES.subarray(this.#at, this.#at + view.length);
        requireThat(expected.equals(view), `other bytes than the WAL's at offset ${this.#at}`);
        this.#at += view.length;
      }
      requireThat(
        piece.endLsn === advanceLsn(WAL.startLsn, this.#at),
        'the end is not that of the bytes',
      );
    }
  }

  async close(): Promise<void> {
    this.#reader?.close();
    this.#readThrough.status();
    this.#readThrough.close();
    for (let turn = 0; turn < 3; turn += 1) await nextTurn();
    this.clock.advance(120_000);
    for (let turn = 0; turn < 2; turn += 1) await nextTurn();
    this.upstream.requireClosed();
    requireThat(this.clock.timers === 0, `${this.clock.timers} timers are set though nobody reads`);
  }

  #open(checksums: boolean): ReadThrough {
    return new ReadThrough({
      target: () => targetFor('sslmode=disable', { hosts: [HOST] }),
      applicationName: () => 'walcast',
      followedHost: () => HOST,
      isUpstreamMoving: () => true,
      origin: () => ({
        systemIdentifier: WAL.systemIdentifier,
        major: 15,
        segmentSize: WAL.segmentSize,
        history: WAL.history,
        receivedLsn: WAL.endLsn,
      }),
      openCheck: (startLsn) => {
        const walk = new RecordWalk({ ...WAL.origin, checksums }, chainStart(startLsn));
        return { push: (data) => walk.push(data), recordEnd: () => walk.recordEnd() };
      },
      timeoutMs: () => 10_000,
      clock: this.clock,
      log: silentLog,
      dial: this.upstream.dial,
    });
  }
}

class ReadThroughRun implements TargetRun {
  async run(session: FuzzSession): Promise<number> {
    const rig = new ReadThroughRig(true);
    const count = await rig.play(session);
    await rig.close();
    return count;
  }

  check(): void {}

  close(): void {}
}

function walSteps(size: number): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < BYTES.length; at += size) {
    const data = BYTES.subarray(at, at + size);
    steps.push(say(walData(toLsn(WAL.startLsn + BigInt(at)), data)), happens('turn'));
  }
  return steps;
}

/** What an honest server says. */
async function honest(): Promise<FuzzSession> {
  const steps: Step[] = [];
  const due: Uint8Array[] = [];
  let isStreaming = false;
  const rig = new ReadThroughRig(true, (bytes) => {
    if (bytes[0] === 0) due.push(greeting(SERVER));
    if (bytes[0] !== 0x51) return;
    const command = bytes.toString('utf8', 5, bytes.length - 1);
    isStreaming = command.startsWith('START_REPLICATION');
    due.push(isStreaming ? COPY_BOTH : raw(answer(SERVER, command), READY));
  });
  for (let round = 0; round < 60 && !isStreaming; round += 1) {
    await rig.upstream.connected();
    await rig.play({ steps: [happens('turn')], chunk: 0, variant: 0 });
    for (const bytes of due.splice(0)) {
      const said = cut(bytes);
      steps.push(...said, happens('turn'));
      await rig.play({ steps: said, chunk: 0, variant: 0 });
    }
  }
  for (const bytes of due) steps.push(...cut(bytes), happens('turn'));
  await rig.close();
  if (!isStreaming) throw new Error('nothing was read through');
  return { steps: [...steps, ...walSteps(MESSAGE_BYTES)], chunk: 0, variant: 0 };
}

async function seeds(recorded: readonly FuzzSession[]): Promise<readonly FuzzSession[]> {
  const whole = await honest();
  const rig = new ReadThroughRig(true);
  await rig.play(whole);
  await rig.close();
  if (rig.taken === 0) throw new Error('an honest server is not read from');
  const begin = whole.steps.slice(0, whole.steps.length - walSteps(MESSAGE_BYTES).length);
  return [whole, { ...whole, steps: [...begin, ...walSteps(8_192)], chunk: 1_000 }, ...recorded];
}

/** Old WAL, read through. */
export const READ_THROUGH: FuzzTarget = {
  name: 'read-through',
  about: 'a hostile server that old WAL is read through from',
  weight: 2,
  seeds,
  words: UPSTREAM.words,
  events: ['turn', 'turn', 'time', 'end'],
  open: () => new ReadThroughRun(),
};
