// The small pure parts of the walreceiver: which authentication is answered, what a connection string means to it, what
// it logs, which slot it asks for, and how the stream is taken apart.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Log, LogFields } from '../../src/base/log.ts';
import { parseConninfo } from '../../src/pg/conninfo.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { FrameDecoder } from '../../src/wire/frame-decoder.ts';
import { upstreamLengthMax } from '../../src/wire/upstream-messages.ts';
import { allowedAuthMethods } from '../../src/walreceiver/auth-methods.ts';
import type { WalRejection } from '../../src/walreceiver/ports.ts';
import { SlotBook } from '../../src/walreceiver/slot-book.ts';
import type { Identification } from '../../src/walreceiver/upstream-identify.ts';
import { UpstreamJournal } from '../../src/walreceiver/upstream-journal.ts';
import type { UpstreamView } from '../../src/walreceiver/upstream-events.ts';
import { upstreamTarget } from '../../src/walreceiver/upstream-target.ts';
import { WalStream } from '../../src/walreceiver/wal-stream.ts';
import { lsn, MemorySink } from '../support/receiver-rig.ts';
import { keepalive, walData } from '../support/scripted-upstream.ts';

describe('require_auth', () => {
  it.each([
    [null, ['none', 'scram-sha-256']],
    ['', ['none', 'scram-sha-256']],
    ['scram-sha-256', ['scram-sha-256']],
    ['md5,password', ['md5', 'password']],
    ['none', ['none']],
    ['gss,scram-sha-256', ['scram-sha-256']],
    ['!none', ['scram-sha-256']],
    ['!password,!md5', ['none', 'scram-sha-256']],
    ['!gss', ['none', 'scram-sha-256']],
  ])('%s allows %j', (text, methods) => {
    expect([...allowedAuthMethods(text)].toSorted()).toEqual(methods.toSorted());
  });

  // The words are libpq's.
  it.each([
    ['x', 'invalid require_auth value: "x"'],
    ['none,', 'invalid require_auth value: ""'],
    ['!', 'invalid require_auth value: ""'],
    ['SCRAM-SHA-256', 'invalid require_auth value: "SCRAM-SHA-256"'],
    ['md5, none', 'invalid require_auth value: " none"'],
    ['none,!md5', 'negative require_auth method "!md5" cannot be mixed with non-negative methods'],
    ['!md5,none', 'require_auth method "none" cannot be mixed with negative methods'],
    ['md5,md5', 'require_auth method "md5" is specified more than once'],
    ['!none,!none', 'require_auth method "!none" is specified more than once'],
  ])('refuses %s', (text, message) => {
    expect(() => allowedAuthMethods(text)).toThrow(message);
  });
});

describe('a connection string', () => {
  function target(text: string): ReturnType<typeof upstreamTarget> {
    const conninfo = parseConninfo(text);
    if ('error' in conninfo) throw new Error(conninfo.error);
    return upstreamTarget(conninfo, {
      user: 'me',
      passwordFor: (host, user) => (host.host === 'b' ? `${user}'s at b` : null),
    });
  }

  it('gives every host its address and its password', () => {
    expect(target('host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2').hosts).toEqual([
      { host: 'a', address: '10.0.0.1', port: 1, password: null },
      { host: 'b', address: '10.0.0.2', port: 2, password: "me's at b" },
    ]);
    expect(target('host=b user=u password=p').hosts[0]?.password).toBe('p');
  });

  it('hands on options, require_auth and the time limit, which is 2 s at least', () => {
    const given = target("host=a options='-c x=1' require_auth=md5 connect_timeout=1");
    expect(given).toMatchObject({ user: 'me', requireAuth: 'md5', connectTimeoutMs: 2_000 });
    expect([...given.parameters]).toEqual([['options', '-c x=1']]);
    expect(target('host=a connect_timeout=-1').connectTimeoutMs).toBe(0);
    expect(target('host=a connect_timeout=7').connectTimeoutMs).toBe(7_000);
  });
});

describe('the log', () => {
  class Lines implements Log {
    readonly lines: { level: string; message: string; fields: LogFields }[] = [];
    debug(): void {}
    info(message: string, fields: LogFields = {}): void {
      this.lines.push({ level: 'info', message, fields });
    }
    warn(message: string, fields: LogFields = {}): void {
      this.lines.push({ level: 'warn', message, fields });
    }
    error(message: string, fields: LogFields = {}): void {
      this.lines.push({ level: 'error', message, fields });
    }
    child(): Log {
      return this;
    }
  }

  const CALM: UpstreamView = {
    phase: 'connecting',
    heldState: null,
    detail: null,
    nextAttemptAtMs: null,
    hostIndex: 0,
  };

  it('says once a minute what fails every five seconds, and says it anew after it worked', () => {
    const log = new Lines();
    const journal = new UpstreamJournal(log);
    const facts = (nowMs: number): Parameters<UpstreamJournal['record']>[1] => ({
      host: 'pg:5432',
      nowMs,
      receivedLsn: lsn('0/5000000'),
    });
    const fail = (nowMs: number): void => {
      journal.record(CALM, facts(nowMs));
      const detail = 'connection refused';
      journal.record(
        { ...CALM, phase: 'backoff', detail, nextAttemptAtMs: nowMs + 5_000 },
        facts(nowMs),
      );
    };
    for (let nowMs = 0; nowMs < 120_000; nowMs += 5_000) fail(nowMs);
    expect(log.lines).toHaveLength(2);
    expect(log.lines[0]).toEqual({
      level: 'warn',
      message: 'upstream: connection refused',
      fields: {
        upstream: 'pg:5432',
        state: 'backoff',
        received_lsn: '0/5000000',
        next: 'try again in 5.0 s',
      },
    });
    journal.record({ ...CALM, phase: 'streaming' }, facts(120_000));
    fail(121_000);
    expect(log.lines.map((line) => line.level)).toEqual(['warn', 'warn', 'info', 'warn']);
  });

  it('says once a minute that a server is waited for which moves on all the time', () => {
    const log = new Lines();
    const journal = new UpstreamJournal(log);
    for (let nowMs = 0; nowMs < 60_000; nowMs += 5_000) {
      const facts = { host: 'h', nowMs, receivedLsn: INVALID_LSN };
      const detail = `the upstream is at 0/5${nowMs}0 on timeline 1: waiting`;
      journal.hostLeft({ host: 'h', reason: detail, isOtherKind: false }, nowMs);
      journal.record(CALM, facts);
      journal.record({ ...CALM, phase: 'held', heldState: 'waiting', detail }, facts);
    }
    expect(log.lines.filter(({ level }) => level !== 'debug')).toHaveLength(2);
  });

  it('calls for a person where one is needed', () => {
    for (const heldState of ['gap', 'diverged', 'corrupt', 'failed', 'waiting', 'full'] as const) {
      const log = new Lines();
      const view = { ...CALM, phase: 'held' as const, heldState, detail: 'stand' };
      new UpstreamJournal(log).record(view, { host: 'h', nowMs: 0, receivedLsn: INVALID_LSN });
      const needsPerson = heldState !== 'waiting' && heldState !== 'full';
      expect(log.lines[0]?.level).toBe(needsPerson ? 'error' : 'warn');
    }
  });
});

describe('what is known about our slot', () => {
  const found = (isSlotMissing: boolean): Identification =>
    ({ isSlotMissing, isSlotCreated: false }) as Identification;

  it('belongs to one host each', () => {
    const book = new SlotBook('s');
    book.identified('a', found(false));
    book.held('b');
    expect(['a', 'b', 'c'].map((host) => book.plan(host))).toEqual([
      { name: 's', action: 'use', isKnown: true },
      { name: 's', action: 'leave', isKnown: false },
      { name: 's', action: 'use', isKnown: false },
    ]);
    expect(new SlotBook(null).plan('a')).toBeNull();
  });

  it('is made anew once after the server called it invalidated, and never on majors where that cannot be told', () => {
    const book = new SlotBook('s');
    const slotRestartLsn = lsn('0/4000100');
    book.refused('a', '55000', { facts: versionFacts(17), slotRestartLsn });
    expect(book.plan('a')?.action).toBe('use');
    book.refused('a', '55000', { facts: versionFacts(18), slotRestartLsn });
    expect(book.plan('a')?.action).toBe('recreate');
    book.identified('a', found(false));
    expect(book.plan('a')?.action).toBe('use');
  });
});

describe('the stream', () => {
  function receive(
    chunks: readonly Uint8Array[],
    options: { isQuiet?: boolean } = {},
  ): {
    sink: MemorySink;
    replies: number;
    rejections: WalRejection[];
  } {
    const sink = new MemorySink(lsn('0/5000000'));
    const rejections: WalRejection[] = [];
    let replies = 0;
    const stream = new WalStream(
      sink,
      {
        onRejected: (rejection) => rejections.push(rejection),
        onReplyRequested: () => {
          replies += 1;
        },
        onFull() {},
        onProgress() {},
        onCaughtUp() {},
      },
      null,
    );
    if (options.isQuiet === true) stream.quiesce();
    const decoder = new FrameDecoder(upstreamLengthMax);
    for (const chunk of chunks) {
      // As the socket does: the buffer is used again after the call.
      const buffer = new Uint8Array(chunk);
      decoder.push(buffer, (_type, body) => stream.onCopyData(body));
      buffer.fill(0xee);
    }
    return { sink, replies, rejections };
  }

  const first = Uint8Array.from({ length: 70 }, (_, index) => index);
  const second = Uint8Array.from({ length: 31 }, (_, index) => 200 - index);
  const wire = Buffer.concat([
    walData(0x5000000n, first),
    keepalive(0x5000046n, true),
    walData(0x5000046n, second),
  ]);
  const expected = Buffer.concat([first, second]);

  it('is the same however the bytes are cut: at every offset, and anywhere at once', () => {
    for (let cut = 0; cut <= wire.length; cut += 1) {
      const { sink, replies, rejections } = receive([wire.subarray(0, cut), wire.subarray(cut)]);
      expect([sink.bytes().equals(expected), replies, rejections.length]).toEqual([true, 1, 0]);
    }
    fc.assert(
      fc.property(fc.array(fc.nat(wire.length)), (cuts) => {
        const edges = [0, ...cuts.toSorted((a, b) => a - b), wire.length];
        const chunks = edges.slice(1).map((end, index) => wire.subarray(edges[index], end));
        expect(receive(chunks).sink.bytes().equals(expected)).toBe(true);
      }),
    );
  });

  it('takes nothing after a message it refused', () => {
    const gap = walData(0x5000047n, second);
    const { sink, rejections, replies } = receive([
      Buffer.concat([
        walData(0x5000000n, first),
        gap,
        keepalive(0x5000046n, true),
        walData(0x5000046n, second),
      ]),
    ]);
    expect(sink.appended).toBe(1);
    expect(replies).toBe(0);
    expect(rejections).toEqual([
      { lsn: lsn('0/5000046'), reason: 'the message starts at 0/5000047, expected 0/5000046' },
    ]);
  });

  it('drops WAL unseen while draining, whatever it joins on to, and still answers keepalives', () => {
    const behind = walData(0x9000000n, second);
    const { sink, rejections, replies } = receive([Buffer.concat([wire, behind])], {
      isQuiet: true,
    });
    expect(sink.appended).toBe(0);
    expect(rejections).toEqual([]);
    expect(replies).toBe(1);
  });

  it('lets a message without WAL pass', () => {
    const empty = walData(0x5000000n, new Uint8Array(0), 0n);
    expect(receive([Buffer.concat([empty, walData(0x5000000n, first, 0n)])]).sink.appended).toBe(1);
  });
});
