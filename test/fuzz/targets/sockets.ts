// The same clients over real sockets, one after the other, with a listener between.
import { connect } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Fixture, rules } from '../../support/wal-senders-fixture.ts';
import type { FuzzSession } from '../engine/session.ts';
import { OracleFailure, requireThat } from '../engine/target.ts';
import type { FuzzTarget, TargetRun } from '../engine/target.ts';
import { AnswerCheck } from '../rig/answer-check.ts';
import { madeWal } from '../rig/made-wal.ts';
import { CONSOLE, COPY_SESSIONS, query, STARTUP_SESSIONS, TURN } from './messages.ts';
import { STARTUP_WORDS } from './downstream.ts';
import { sessionOf } from '../engine/session.ts';

const HANG_MS = 30_000;
const RULES = rules('host replication,walcast all all trust');

class SocketRun implements TargetRun {
  #fixture: Fixture | null = null;

  async open(): Promise<this> {
    const fixture = await Fixture.start({ beside: true });
    fixture.hba = RULES;
    fixture.feed.make = (start, end) => Buffer.from(madeWal(start, end));
    this.#fixture = fixture;
    return this;
  }

  async run(session: FuzzSession): Promise<number> {
    const check = new AnswerCheck();
    const count = await this.#exchange(session, check);
    if (session.steps.some(({ kind }) => kind === 'upstream')) check.isTunnelled = true;
    check.check();
    return count;
  }

  /** One that is gone is not listed, a moment later; the standby beside is. */
  async check(): Promise<void> {
    const fixture = this.#fixture;
    if (fixture === null) return;
    for (let turn = 0; turn < 1000 && fixture.senders.statuses().length > 1; turn += 1)
      await nextTurn();
    requireThat(fixture.senders.statuses().length === 1, 'a client is listed that has gone');
    fixture.slots.slots.clear();
    fixture.slots.advances.length = 0;
    fixture.log.lines.length = 0;
    fixture.tunnels.opened.length = 0;
  }

  async close(): Promise<void> {
    await this.#fixture?.finish();
  }

  #exchange(session: FuzzSession, check: AnswerCheck): Promise<number> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#fixture?.port ?? 0, '127.0.0.1');
      let count = 0;
      const timer = setTimeout(() => {
        socket.destroy();
        reject(
          new OracleFailure(
            'hang',
            `a connection was not closed within ${HANG_MS} ms after its last byte`,
          ),
        );
      }, HANG_MS);
      socket.on('data', (chunk: Buffer) => check.take(chunk));
      socket.on('error', () => {});
      socket.on('close', () => {
        clearTimeout(timer);
        resolve(count);
      });
      const play = async (): Promise<void> => {
        for (const { kind, bytes } of session.steps) {
          if (socket.destroyed) break;
          if (kind === 'turn') await nextTurn();
          if (kind === 'wal') this.#fixture?.feed.append(20);
          if (kind !== 'say') continue;
          const size = session.chunk === 0 ? bytes.length : session.chunk;
          for (let at = 0; at < bytes.length; at += size)
            socket.write(bytes.subarray(at, at + size));
          count += 1;
        }
        socket.end();
      };
      socket.once('connect', () => void play());
    });
  }
}

/** Clients over sockets. */
export const SOCKETS: FuzzTarget = {
  name: 'sockets',
  about: 'clients of the PostgreSQL port over real sockets',
  weight: 2,
  seeds: (recorded) => [
    ...STARTUP_SESSIONS,
    ...COPY_SESSIONS,
    sessionOf([CONSOLE, query('SELECT * FROM pg_stat_replication'), TURN]),
    ...recorded,
  ],
  words: STARTUP_WORDS,
  events: ['turn', 'wal'],
  open: async () => await new SocketRun().open(),
};
