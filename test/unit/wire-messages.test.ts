import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as backend from '../../src/wire/backend-messages.ts';
import * as frontend from '../../src/wire/frontend-messages.ts';
import { decodeUpstreamMessage, upstreamLengthMax } from '../../src/wire/upstream-messages.ts';
import type { UpstreamMessage } from '../../src/wire/upstream-messages.ts';
import { bodyOf, cstr, i16, i32, message, raw } from '../support/naive-writer.ts';
import { violation } from '../support/violation.ts';

function fromClient(type: string, body: Uint8Array): frontend.FrontendMessage {
  return frontend.decodeFrontendMessage(type.charCodeAt(0), body);
}

function fromServer(type: string, ...parts: (number | string | Uint8Array)[]): UpstreamMessage {
  return decodeUpstreamMessage(type.charCodeAt(0), raw(...parts));
}

describe('decodeFrontendMessage', () => {
  it('reads each message a client may send', () => {
    const data = Uint8Array.of(1, 2);
    expect(fromClient('Q', cstr('SHOW x'))).toEqual({ type: 'Query', sql: 'SHOW x' });
    expect(fromClient('X', raw())).toEqual({ type: 'Terminate' });
    expect(fromClient('d', data)).toEqual({ type: 'CopyData', data });
    expect(fromClient('c', raw())).toEqual({ type: 'CopyDone' });
    expect(fromClient('f', cstr('why'))).toEqual({ type: 'CopyFail', reason: 'why' });
    expect(fromClient('S', raw())).toEqual({ type: 'Sync', isWellFormed: true });
    expect(fromClient('S', raw(0))).toEqual({ type: 'Sync', isWellFormed: false });
    expect(fromClient('H', raw())).toEqual({ type: 'Flush' });
    expect(fromClient('F', data)).toEqual({ type: 'FunctionCall' });
    expect(fromClient('p', data)).toEqual({ type: 'PasswordOrSasl', data });
    for (const letter of 'PBEDC') {
      expect(fromClient(letter, data)).toEqual({ type: 'ExtendedQuery', letter });
    }
  });

  it('takes an empty query and bytes that are no UTF-8 for text', () => {
    expect(fromClient('Q', raw(0))).toEqual({ type: 'Query', sql: '' });
    expect(fromClient('Q', raw(0xff, 0x41, 0))).toEqual({ type: 'Query', sql: '\ufffdA' });
  });

  it('refuses text without a NUL, and bytes behind it, as the server does', () => {
    for (const type of 'Qf') {
      expect(violation(() => fromClient(type, raw('abc')))).toBe('08P01 invalid string in message');
      expect(violation(() => fromClient(type, raw()))).toBe('08P01 invalid string in message');
      expect(violation(() => fromClient(type, raw('a', 0, 'b', 0)))).toBe(
        '08P01 invalid message format',
      );
    }
    expect(violation(() => fromClient('H', raw(0)))).toBe('08P01 invalid message format');
  });

  it.each([0, 63, 127, 255])('ends the session for the unknown type %i', (type) => {
    let caught: unknown;
    try {
      frontend.decodeFrontendMessage(type, raw());
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(frontend.FatalProtocolViolation);
    expect(caught).toMatchObject({
      code: '08P01',
      message: `invalid frontend message type ${type}`,
      isFatal: true,
    });
  });

  it('allows 64 KiB to commands and replies and little to everything else', () => {
    const max = (letter: string): number => frontend.frontendLengthMax(letter.charCodeAt(0));
    expect([max('Q'), max('d')]).toEqual([65_536, 65_536]);
    expect([max('c'), max('X'), max('p'), max('S')]).toEqual([10_000, 10_000, 10_000, 10_000]);
    // Whatever its length is.
    expect([max('?'), max('\0'), max('Z')]).toEqual([0, 0, 0]);
  });

  it('never throws anything but a protocol violation', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.uint8Array({ maxLength: 60 }), (type, body) => {
        violation(() => frontend.decodeFrontendMessage(type, body));
      }),
    );
  });
});

describe('frontend encoders', () => {
  it('write what the naive writer writes', () => {
    expect(frontend.encodeQuery('SELECT ü')).toEqual(message('Q', cstr('SELECT ü')));
    expect(frontend.encodeTerminate()).toEqual(message('X'));
    expect(frontend.encodeCopyDone()).toEqual(message('c'));
    expect(frontend.encodeCopyData([raw('ab'), raw(), raw('c')])).toEqual(message('d', 'abc'));
    expect(frontend.encodePassword('geheim')).toEqual(message('p', cstr('geheim')));
    expect(frontend.encodeSaslInitial('SCRAM-SHA-256', raw('n,,'))).toEqual(
      message('p', cstr('SCRAM-SHA-256'), i32(3), 'n,,'),
    );
    expect(frontend.encodeSaslResponse(raw('c=biws'))).toEqual(message('p', 'c=biws'));
  });

  it('grow with the message', () => {
    const sql = 'x'.repeat(100_000);
    expect(frontend.encodeQuery(sql)).toEqual(message('Q', cstr(sql)));
  });
});

describe('backend encoders', () => {
  it('write what the naive writer writes', () => {
    expect(backend.encodeAuthenticationOk()).toEqual(message('R', i32(0)));
    expect(backend.encodeAuthenticationSasl(['A', 'B'])).toEqual(
      message('R', i32(10), cstr('A'), cstr('B'), 0),
    );
    expect(backend.encodeAuthenticationSaslContinue(raw('r='))).toEqual(
      message('R', i32(11), 'r='),
    );
    expect(backend.encodeAuthenticationSaslFinal(raw('v='))).toEqual(message('R', i32(12), 'v='));
    expect(backend.encodeParameterStatus('a', 'ü')).toEqual(message('S', cstr('a'), cstr('ü')));
    expect(backend.encodeBackendKeyData(77, Uint8Array.of(1, 2, 3, 4))).toEqual(
      message('K', i32(77), 1, 2, 3, 4),
    );
    expect(backend.encodeReadyForQuery()).toEqual(message('Z', 'I'));
    expect(backend.encodeCommandComplete('SHOW')).toEqual(message('C', cstr('SHOW')));
    expect(backend.encodeEmptyQueryResponse()).toEqual(message('I'));
    expect(backend.encodeCopyBothResponse()).toEqual(message('W', 0, 0, 0));
    expect(backend.encodeCopyDone()).toEqual(message('c'));
    expect(backend.encodeNegotiateProtocolVersion(2, ['_pq_.x'])).toEqual(
      message('v', i32(0x30002), i32(1), cstr('_pq_.x')),
    );
  });

  it('describe columns of no table in text format', () => {
    const columns = [
      backend.textColumn('t'),
      backend.int8Column('i'),
      backend.int4Column('j'),
      backend.byteaColumn('b'),
    ];
    const column = (name: string, oid: number, length: number): Uint8Array =>
      raw(cstr(name), i32(0), i16(0), i32(oid), i16(length), i32(-1), i16(0));
    expect(backend.encodeRowDescription(columns)).toEqual(
      message(
        'T',
        i16(4),
        column('t', 25, -1),
        column('i', 20, 8),
        column('j', 23, 4),
        column('b', 17, -1),
      ),
    );
  });

  it('write rows of text, bytes and NULL', () => {
    expect(backend.encodeDataRow(['ü', Uint8Array.of(0, 255), null, ''])).toEqual(
      message('D', i16(4), i32(2), 'ü', i32(2), 0, 255, i32(-1), i32(0)),
    );
  });

  it('write errors and notices with the fields that are there', () => {
    expect(
      backend.encodeErrorResponse({
        severity: 'FATAL',
        sqlstate: '08P01',
        message: 'm',
        detail: 'd',
        hint: 'h',
      }),
    ).toEqual(message('E', ...['SFATAL', 'VFATAL', 'C08P01', 'Mm', 'Dd', 'Hh'].map(cstr), 0));
    expect(
      backend.encodeNoticeResponse({ severity: 'NOTICE', sqlstate: '42622', message: 'cut' }),
    ).toEqual(message('N', ...['SNOTICE', 'VNOTICE', 'C42622', 'Mcut'].map(cstr), 0));
  });

  it("end a text at a NUL, so that a peer's text cannot break the frame", () => {
    expect(backend.encodeParameterStatus('a', 'b\0c')).toEqual(message('S', cstr('a'), cstr('b')));
  });
});

describe('decodeUpstreamMessage', () => {
  it('reads each authentication request', () => {
    expect(fromServer('R', i32(0))).toEqual({ type: 'AuthenticationOk' });
    expect(fromServer('R', i32(3))).toEqual({ type: 'AuthenticationCleartextPassword' });
    expect(fromServer('R', i32(5), 1, 2, 3, 4)).toEqual({
      type: 'AuthenticationMD5Password',
      salt: Uint8Array.of(1, 2, 3, 4),
    });
    expect(fromServer('R', i32(10), cstr('SCRAM-SHA-256-PLUS'), cstr('SCRAM-SHA-256'), 0)).toEqual({
      type: 'AuthenticationSASL',
      mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'],
    });
    expect(fromServer('R', i32(11), 'r=a')).toEqual({
      type: 'AuthenticationSASLContinue',
      data: raw('r=a'),
    });
    expect(fromServer('R', i32(12), 'v=a')).toEqual({
      type: 'AuthenticationSASLFinal',
      data: raw('v=a'),
    });
    expect(fromServer('R', i32(7))).toEqual({ type: 'AuthenticationUnsupported', code: 7 });
  });

  it('reads the messages of a session', () => {
    expect(fromServer('S', cstr('server_version'), cstr('18.4'))).toEqual({
      type: 'ParameterStatus',
      name: 'server_version',
      value: '18.4',
    });
    expect(fromServer('K', i32(5), 1, 2, 3, 4)).toEqual({
      type: 'BackendKeyData',
      pid: 5,
      key: Uint8Array.of(1, 2, 3, 4),
    });
    expect(fromServer('Z', 'I')).toEqual({ type: 'ReadyForQuery', status: 'I' });
    expect(fromServer('C', cstr('COPY 0'))).toEqual({ type: 'CommandComplete', tag: 'COPY 0' });
    expect(fromServer('I')).toEqual({ type: 'EmptyQuery' });
    expect(fromServer('W', 0, 0, 0)).toEqual({ type: 'CopyBothResponse' });
    expect(fromServer('H', 0, 0, 0)).toEqual({ type: 'CopyOutResponse' });
    expect(fromServer('G', 0, 0, 0)).toEqual({ type: 'CopyInResponse' });
    expect(fromServer('c')).toEqual({ type: 'CopyDone' });
    expect(fromServer('A', i32(1), cstr('a'), cstr('b'))).toEqual({ type: 'NotificationResponse' });
    expect(fromServer('v', i32(0x30002), i32(1), cstr('_pq_.x'))).toEqual({
      type: 'NegotiateProtocolVersion',
      minor: 2,
      options: ['_pq_.x'],
    });
  });

  it('gives CopyData as a view of the body', () => {
    const body = raw('w', 1, 2, 3);
    const decoded = decodeUpstreamMessage('d'.charCodeAt(0), body);
    expect(decoded.type === 'CopyData' && decoded.data === body).toBe(true);
  });

  it('reads results, values as bytes', () => {
    const column = (name: string, oid: number): Uint8Array =>
      raw(cstr(name), i32(0), i16(0), i32(oid), i16(-1), i32(-1), i16(0));
    expect(fromServer('T', i16(2), column('filename', 25), column('content', 0xfffffff0))).toEqual({
      type: 'RowDescription',
      columns: [
        { name: 'filename', typeOid: 25 },
        { name: 'content', typeOid: 0xfffffff0 },
      ],
    });
    expect(fromServer('D', i16(3), i32(2), 0xff, 0, i32(-1), i32(0))).toEqual({
      type: 'DataRow',
      values: [Uint8Array.of(0xff, 0), null, raw()],
    });
  });

  it('reads how far a question of the extended protocol got', () => {
    expect(Array.from('12ns').map((letter) => fromServer(letter))).toEqual([
      { type: 'ParseComplete' },
      { type: 'BindComplete' },
      { type: 'NoData' },
      { type: 'PortalSuspended' },
    ]);
  });

  it('reads errors, and tolerates ones that lack fields, hold unknown ones, or are cut', () => {
    const fields = [
      'SFEHLER',
      'VFATAL',
      'C57P03',
      'Mm',
      'Dd',
      'Hh',
      'RProcessStartupPacket',
      'ZZ',
    ].map(cstr);
    const full = {
      severity: 'FATAL',
      sqlstate: '57P03',
      message: 'm',
      detail: 'd',
      hint: 'h',
      routine: 'ProcessStartupPacket',
    };
    const empty = {
      severity: 'ERROR',
      sqlstate: 'XX000',
      message: 'missing error text',
      detail: null,
      hint: null,
      routine: null,
    };
    const error = (...parts: (number | string | Uint8Array)[]): unknown =>
      fromServer('E', ...parts);
    expect(error(...fields, 0)).toEqual({ type: 'ErrorResponse', fields: full });
    expect(fromServer('N', ...fields, 0)).toEqual({ type: 'NoticeResponse', fields: full });
    expect(error()).toEqual({ type: 'ErrorResponse', fields: empty });
    expect(error(0)).toEqual({ type: 'ErrorResponse', fields: empty });
    expect(error('SFATAL', 0, 'Mcut her')).toEqual({
      type: 'ErrorResponse',
      fields: { ...empty, severity: 'FATAL', message: 'cut her' },
    });
  });

  it('refuses every cut of a message that has fields, or reads it as an error text', () => {
    const column = raw(cstr('n'), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0));
    const whole: [string, Uint8Array][] = [
      ['R', raw(i32(5), 1, 2, 3, 4)],
      ['R', raw(i32(10), cstr('SCRAM-SHA-256'), 0)],
      ['S', raw(cstr('name'), cstr('value'))],
      ['K', raw(i32(5), 1, 2, 3, 4)],
      ['Z', raw('I')],
      ['C', cstr('SHOW')],
      ['T', raw(i16(2), column, column)],
      ['D', raw(i16(2), i32(3), 'abc', i32(-1))],
      ['v', raw(i32(0x30000), i32(1), cstr('_pq_.x'))],
    ];
    for (const [type, body] of whole) {
      expect(violation(() => fromServer(type, body))).toBeNull();
      for (let length = 0; length < body.length; length += 1) {
        expect(violation(() => fromServer(type, body.slice(0, length)))).toMatch(/^08P01 /);
      }
    }
  });

  it.each([
    ['D', raw(i16(1), i32(-2))],
    ['D', raw(i16(1), i32(0x7fffffff), 'a')],
    ['D', raw(i16(0), 'x')],
    ['S', raw(cstr('a'), cstr('b'), 'x')],
    ['K', raw(i32(5), new Uint8Array(257))],
    ['v', raw(i32(0x30000), i32(0x7fffffff))],
    ['v', raw(i32(0x30000), i32(-1))],
    ['v', raw(i32(0x20000), i32(0))],
    ['R', raw(i32(10), ...Array.from({ length: 65 }, () => cstr('M')), 0)],
    ['?', raw()],
    ['t', raw(i16(0))],
    ['3', raw()],
  ])('refuses the malformed %s %j', (type, body) => {
    expect(violation(() => fromServer(type, body))).toMatch(/^08P01 /);
  });

  it('never throws anything but a protocol violation, and always ends', () => {
    const letters = fc.constantFrom(...Array.from('RSKZTDCIWHGcdENvA12ns?'));
    fc.assert(
      fc.property(letters, fc.uint8Array({ maxLength: 80 }), (type, body) => {
        violation(() => fromServer(type, body));
      }),
      { numRuns: 2000 },
    );
  });

  it('allows a megabyte to data and errors, 30 000 bytes to the rest, nothing to other types', () => {
    const max = (letter: string): number => upstreamLengthMax(letter.charCodeAt(0));
    expect(Array.from('dTDEN').map(max)).toEqual(Array(5).fill(1024 * 1024));
    expect(Array.from('RSKZCIWHGcvA12ns').map(max)).toEqual(Array(16).fill(30_000));
    expect(Array.from('?Vt3').map(max)).toEqual(Array(4).fill(0));
  });

  it('reads back what the backend encoders write', () => {
    const decode = (bytes: Uint8Array): UpstreamMessage =>
      decodeUpstreamMessage(bytes[0] ?? 0, bodyOf(bytes));
    fc.assert(
      fc.property(fc.array(fc.option(fc.uint8Array())), (values) => {
        expect(decode(backend.encodeDataRow(values))).toEqual({ type: 'DataRow', values });
      }),
      { numRuns: 50 },
    );
  });
});
