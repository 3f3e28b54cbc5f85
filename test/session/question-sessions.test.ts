// Questions to an upstream over plain SQL sessions: what goes over the wire, how many sessions there are, and what a server
// that answers badly, or not at all, can do.
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import {
  AUTH_ANSWER_BYTES_MAX,
  AUTH_SESSION_AGE_MS_MAX,
  AUTH_SESSION_IDLE_MS,
  AUTH_TARGET_MS,
} from '../../src/config/limits.ts';
import { dial } from '../../src/net/dial.ts';
import { QuestionSessions } from '../../src/walreceiver/question-sessions.ts';
import type { SqlAnswer } from '../../src/walreceiver/question-sessions.ts';
import type { UpstreamHost } from '../../src/walreceiver/upstream-target.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i16, i32 } from '../support/naive-writer.ts';
import { targetFor } from '../support/upstream-target.ts';

const SQL = 'SELECT * FROM users WHERE name = $1';

/** One session of the played server: its startup packet and the messages behind it, as they came. */
interface Seen {
  readonly socket: Socket;
  readonly startup: Map<string, string>;
  readonly questions: Buffer[];
}

type Play = (seen: Seen, question: Buffer) => void;

class PlayedUpstream {
  readonly #server: Server;
  #port = 0;
  readonly sessions: Seen[] = [];
  play: Play = (seen) => seen.socket.write(answer([['name', 'secret']]));

  private constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async open(): Promise<PlayedUpstream> {
    const upstream = new PlayedUpstream();
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    upstream.#port = (upstream.#server.address() as AddressInfo).port;
    return upstream;
  }

  get host(): UpstreamHost {
    return { host: '127.0.0.1', address: '127.0.0.1', port: this.#port, password: null };
  }

  get open(): number {
    return this.sessions.filter(({ socket }) => !socket.destroyed).length;
  }

  close(): void {
    for (const { socket } of this.sessions) socket.destroy();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    let bytes = Buffer.alloc(0);
    let seen: Seen | null = null;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (seen === null) {
        if (bytes.length < 4 || bytes.length < bytes.readInt32BE(0)) return;
        const end = bytes.readInt32BE(0);
        const words = bytes
          .subarray(8, end - 2)
          .toString()
          .split('\0');
        const startup = new Map<string, string>();
        for (let at = 0; at < words.length; at += 2)
          startup.set(words[at] ?? '', words[at + 1] ?? '');
        seen = { socket, startup, questions: [] };
        this.sessions.push(seen);
        bytes = bytes.subarray(end);
        socket.write(Buffer.concat([message('R', i32(0)), ready()]));
      }
      // A question ends with Sync.
      for (let end = bytes.indexOf(SYNC); end >= 0; end = bytes.indexOf(SYNC)) {
        const question = bytes.subarray(0, end + SYNC.length);
        bytes = bytes.subarray(end + SYNC.length);
        seen.questions.push(question);
        this.play(seen, question);
      }
    });
  }
}

const SYNC = Buffer.from([0x53, 0, 0, 0, 4]);

function message(type: string, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), i32(4 + body.length), body]);
}

function ready(): Buffer {
  return message('Z', Buffer.from('I'));
}

function answer(rows: readonly (readonly string[])[], columns = 2): Buffer {
  const fields = Array.from({ length: columns }, (_, index) =>
    Buffer.concat([cstr(`c${index}`), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0)]),
  );
  const values = (row: readonly string[]): Buffer[] =>
    row.map((value) => Buffer.concat([i32(Buffer.byteLength(value)), Buffer.from(value)]));
  return Buffer.concat([
    message('1'),
    message('2'),
    message('T', i16(columns), ...fields),
    ...rows.map((row) => message('D', i16(row.length), ...values(row))),
    message('C', cstr(`SELECT ${rows.length}`)),
    ready(),
  ]);
}

function failure(sqlstate: string, text: string): Buffer {
  const fields = Buffer.concat([
    Buffer.from('S'),
    cstr('ERROR'),
    Buffer.from('C'),
    cstr(sqlstate),
    Buffer.from('M'),
    cstr(text),
    Buffer.from('D'),
    cstr(`detail of ${text}`),
    Buffer.of(0),
  ]);
  return Buffer.concat([message('E', fields), ready()]);
}

let upstream: PlayedUpstream;
let other: PlayedUpstream;
let followed: UpstreamHost | null;
let conninfo: string;
let targets: number;
let questions: QuestionSessions;

beforeEach(async () => {
  upstream = await PlayedUpstream.open();
  other = await PlayedUpstream.open();
  followed = upstream.host;
  conninfo = 'sslmode=disable';
  targets = 0;
  questions = openQuestions();
});

afterEach(() => {
  questions.close();
  upstream.close();
  other.close();
});

function openQuestions(clock = systemClock): QuestionSessions {
  return new QuestionSessions({
    target: () => {
      targets += 1;
      return targetFor(conninfo, { hosts: [upstream.host, other.host] });
    },
    followedHost: () => followed,
    applicationName: () => 'walcast',
    clock,
    log: silentLog,
    dial,
  });
}

function ask(value: string, signal = new AbortController().signal): Promise<SqlAnswer> {
  return questions.ask({ database: 'postgres', sql: SQL, value }, signal);
}

describe('a question', () => {
  test('goes with the value bound, over a session that is no walsender and is named apart', async () => {
    const value = `x'; DROP TABLE users; --`;
    expect(await ask(value)).toEqual({ columns: 2, rows: [['name', 'secret']] });
    const [session] = upstream.sessions;
    expect(Object.fromEntries(session?.startup ?? [])).toEqual({
      user: 'replicator',
      database: 'postgres',
      application_name: 'walcast_auth',
      client_encoding: 'UTF8',
      datestyle: 'ISO',
      timezone: 'UTC',
      client_min_messages: 'error',
      statement_timeout: '5000',
    });
    const question = session?.questions[0]?.toString('latin1') ?? '';
    expect(question.startsWith('P')).toBe(true);
    expect(question.split(SQL)).toHaveLength(2);
    expect(question.split(value)).toHaveLength(2);
    expect(question.indexOf(value)).toBeGreaterThan(question.indexOf(SQL) + SQL.length);
  });

  test('after another one uses the same session', async () => {
    for (let count = 0; count < 3; count += 1) await ask('a');
    expect(upstream.sessions).toHaveLength(1);
    expect(upstream.sessions[0]?.questions).toHaveLength(3);
  });

  test('is one of two at a time, however many are asked', async () => {
    const pending: Seen[] = [];
    upstream.play = (seen) => {
      pending.push(seen);
      expect(pending.length).toBeLessThanOrEqual(2);
      setImmediate(() => {
        pending.splice(pending.indexOf(seen), 1);
        seen.socket.write(answer([]));
      });
    };
    await Promise.all(Array.from({ length: 12 }, (_, index) => ask(`user${index}`)));
    expect(upstream.sessions.length).toBeLessThanOrEqual(2);
  });

  test('is asked anew where the server has closed the session meanwhile', async () => {
    await ask('a');
    upstream.play = (seen) => {
      upstream.play = (next) => next.socket.write(answer([['b', 'secret']]));
      seen.socket.destroy();
    };
    expect(await ask('b')).toMatchObject({ rows: [['b', 'secret']] });
    expect(upstream.sessions).toHaveLength(2);
  });

  test('goes to the host that is followed now, and to any while none was', async () => {
    await ask('a');
    followed = other.host;
    await ask('a');
    expect(other.sessions).toHaveLength(1);
    await eventually(() => upstream.open).toBe(0);
    followed = null;
    upstream.close();
    await ask('a');
    expect(other.sessions.flatMap((session) => session.questions)).toHaveLength(2);
  });

  test('goes over a fresh session now and then: the name of the host may be that of another server', async () => {
    const clock = new ManualClock();
    questions = openQuestions(clock);
    for (
      let passedMs = 0;
      passedMs <= AUTH_SESSION_AGE_MS_MAX;
      passedMs += AUTH_SESSION_IDLE_MS / 2
    ) {
      await ask('a');
      clock.advance(AUTH_SESSION_IDLE_MS / 2);
    }
    await ask('a');
    expect(upstream.sessions).toHaveLength(2);
    await eventually(() => upstream.open).toBe(1);
  });

  test('goes over a fresh session when the connection string has other settings by now', async () => {
    await ask('a');
    conninfo = 'sslmode=disable options=-csearch_path=pg_catalog';
    questions.settingsChanged();
    await ask('a');
    expect(upstream.sessions).toHaveLength(2);
    await eventually(() => upstream.open).toBe(1);
  });

  test('has the files of the connection string looked at once a second at most', async () => {
    const clock = new ManualClock();
    questions = openQuestions(clock);
    await ask('a');
    await ask('b');
    expect(targets).toBe(1);
    clock.advance(AUTH_TARGET_MS);
    await ask('c');
    expect(targets).toBe(2);
  });

  test('leaves no session open for long', async () => {
    const clock = new ManualClock();
    questions = openQuestions(clock);
    await ask('a');
    expect(upstream.open).toBe(1);
    clock.advance(AUTH_SESSION_IDLE_MS);
    await eventually(() => upstream.open).toBe(0);
  });
});

describe('a server', () => {
  test('that does not answer is left when the question is given up', async () => {
    const abort = new AbortController();
    upstream.play = () => abort.abort();
    await expect(ask('a', abort.signal)).rejects.toMatchObject({ code: 'UPSTREAM_CLOSED' });
    await eventually(() => upstream.open).toBe(0);
    upstream.play = (seen) => seen.socket.write(answer([]));
    expect(await ask('a')).toEqual({ columns: 2, rows: [] });
  });

  test.each([
    ['more than is kept', answer([['a', 'x'.repeat(AUTH_ANSWER_BYTES_MAX)]])],
    ['more rows than were asked for', answer([['a'], ['b'], ['c']])],
    ['a message that no answer has', Buffer.concat([message('1'), message('W'), ready()])],
    ['half a message', Buffer.concat([message('T', i16(5)), ready()])],
    ['a length that no message has', Buffer.concat([Buffer.from('D'), i32(2 ** 31 - 1)])],
  ])('that sends %s ends its session and nothing else', async (_what, bytes) => {
    upstream.play = (seen) => seen.socket.write(bytes);
    await expect(ask('a')).rejects.toMatchObject({ code: '08P01' });
    await eventually(() => upstream.open).toBe(0);
  });

  test('that refuses is quoted, but for what may be a value', async () => {
    upstream.play = (seen) =>
      seen.socket.write(failure('42883', 'function f(text) does not exist'));
    await expect(ask('a')).rejects.toThrow(/function f\(text\) does not exist \[SQLSTATE 42883\]$/);
    expect(upstream.sessions).toHaveLength(1);
  });

  test.each([
    ['22P02', 'invalid input: "geheim"', /a value does not fit its type \[SQLSTATE 22P02\]$/],
    ['22P05', 'no equivalent of "geheim" in encoding "LATIN1"', /\[SQLSTATE 22P05\]$/],
    ['P0002', 'query returned no rows', /query returned no rows \[SQLSTATE P0002\]$/],
    ['P0001', 'who is that?', /who is that\? \[SQLSTATE P0001\]$/],
  ])('that has no answer for one value (%s) can be asked for others', async (state, text, said) => {
    upstream.play = (seen) => seen.socket.write(failure(state, text));
    const told = await ask('a');
    expect(told.problem).toMatch(said);
    expect(JSON.stringify(told)).not.toContain('geheim');
    expect(upstream.sessions).toHaveLength(1);
  });
});

test('nothing is asked any more once the sessions are closed', async () => {
  await ask('a');
  questions.close();
  await expect(ask('a')).rejects.toMatchObject({ code: 'AUTH_QUERY_CLOSED' });
  await eventually(() => upstream.open).toBe(0);
});
