// What may one message to the console cost the standbys, whose event loop it shares?
import { beforeEach, describe, expect, it } from 'vitest';
import {
  CONSOLE_ANSWER_BYTES_MAX,
  CONSOLE_COLUMNS_MAX,
  CONSOLE_STATEMENT_WORDS_MAX,
} from '../../src/config/limits.ts';
import { ConsoleOpener } from '../../src/console/opener.ts';
import type { ConsoleSession } from '../../src/console/console-session.ts';
import type { ConsoleSource } from '../../src/console/source.ts';
import { parseHba } from '../../src/pg/hba.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { bind, execute, parse } from '../support/console-client.ts';
import { sampleConsole } from '../support/console-source.ts';
import { cstr } from '../support/naive-writer.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const VIEW = 'FROM pg_stat_replication';
const ALL = `SELECT * ${VIEW}`;

let session: ConsoleSession;
/** What was answered since the last question. */
let answer: Buffer;

function begin(standbys: number, inside: Partial<ConsoleSource> = {}): void {
  const status = sampleStatus({
    standbys: Array.from({ length: standbys }, (_, index) =>
      sampleStandby({ pid: index + 1, applicationName: `s${index % 10}` }),
    ),
  });
  session = new ConsoleOpener(sampleConsole(() => status, inside)).open({
    pid: 10_000_001,
    user: 'ops',
    peer: { address: '10.0.0.9', port: 50_000 },
    facts: versionFacts(18),
    serverVersion: '18.1',
    walcastVersion: '0.1.0',
    parameters: new Map(),
    settings: new Map(),
    ownSettings: () => new Map(),
    write: (chunks) => {
      answer = Buffer.concat([answer, ...chunks]);
    },
  });
}

/** Letters of the messages it is answered with, a run of DataRows as one. */
function ask(sql: string): string {
  answer = Buffer.alloc(0);
  void session.onMessage(0x51, cstr(sql));
  return letters();
}

/** A message of the extended protocol, whole. */
function send(whole: Uint8Array): string {
  answer = Buffer.alloc(0);
  void session.onMessage(whole[0] ?? 0, whole.subarray(5));
  return letters();
}

function letters(): string {
  let text = '';
  for (let at = 0; at < answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    text += answer.toString('latin1', at, at + 1);
  }
  return text.replaceAll(/D+/g, 'D');
}

const many = (count: number, part: string, joint: string): string =>
  Array<string>(count).fill(part).join(joint);

describe('a thousand standbys', () => {
  beforeEach(() => begin(1_000));

  it('are shown whole, also twice, but not as often as a query has room for', () => {
    expect(ask(ALL)).toBe('TDCZ');
    expect(ask(`${ALL}; ${ALL}`)).toBe('TDCTDCZ');
    expect(ask(many(8, ALL, ';'))).toMatch(/^(?:TDC){3}EZ$/);
    expect(answer.includes('C54000\0')).toBe(true);
    // Each message begins anew.
    expect(ask(ALL)).toBe('TDCZ');
    send(parse(ALL, 'p'));
    send(bind({ name: 'p' }));
    for (let index = 0; index < 5; index += 1) expect(send(execute())).toMatch(/^D?C$/);
  });

  it.each([
    ['columns', `SELECT ${many(CONSOLE_COLUMNS_MAX + 1, 'pid', ',')} ${VIEW}`],
    ['all columns again and again', `SELECT ${many(200, '*', ',')} ${VIEW}`],
    ['sort keys', `${ALL} ORDER BY ${many(CONSOLE_COLUMNS_MAX, 'backend_start', ',')}`],
    ['conditions', `${ALL} WHERE ${many(CONSOLE_COLUMNS_MAX, `state <> 'x'`, ' AND ')}`],
    ['counted by conditions', `SELECT count(*) ${VIEW} WHERE ${many(64, 'pid = 1', ' AND ')}`],
    ['values', `SELECT pid ${VIEW} WHERE pid IN (${many(CONSOLE_STATEMENT_WORDS_MAX, '1', ',')})`],
    ['long values', `SELECT '${'x'.repeat(2_000)}' ${VIEW}`],
  ])('are not looked at for too many %s', (_name, sql) => {
    expect(ask(sql)).toBe('EZ');
    expect(answer.includes('C54000\0')).toBe(true);
    expect(ask('SELECT 1')).toBe('TDCZ');
  });

  it('are not held in portals for longer than a bounded number of bytes', () => {
    send(parse(`SELECT '${'x'.repeat(50_000)}' ${VIEW}`, 'p'));
    expect(send(bind({ name: 'p' }))).toBe('2');
    expect(send(execute(1))).toBe('E');
    expect(answer.length).toBeLessThan(CONSOLE_ANSWER_BYTES_MAX);
  });

  it('are ordered by all keys, up and down, and keep their order where these are the same', () => {
    const rows = (sql: string): string[] => {
      ask(sql);
      return [...answer.toString('latin1').matchAll(/s(\d)\0\0\0.(\d+)/g)].map(
        ([, name, pid]) => `${name} ${pid}`,
      );
    };
    const names = `SELECT application_name, pid ${VIEW} ORDER BY`;
    expect(rows(`${names} application_name DESC LIMIT 2`)).toEqual(['9 10', '9 20']);
    expect(rows(`${names} 1, pid DESC LIMIT 2`)).toEqual(['0 991', '0 981']);
    expect(rows(`${names} 1, 1 DESC, application_name DESC, 2 DESC LIMIT 2`)).toEqual([
      '0 991',
      '0 981',
    ]);
  });
});

it('reports are bounded together like any other question', () => {
  begin(1_000);
  expect(ask('SHOW STANDBYS')).toBe('TDCZ');
  expect(ask(many(8, 'SHOW STANDBYS', ';'))).toMatch(/^TDCEZ$/);
  expect(answer.includes('C54000\0')).toBe(true);
});

it('a query is not read further than to one statement too many', () => {
  begin(1);
  expect(ask(many(8, 'SELECT 1', ';'))).toBe('TDC'.repeat(8) + 'Z');
  expect(ask(`${many(8, 'SELECT 1', ';')};;; -- nothing more`)).toBe('TDC'.repeat(8) + 'Z');
  // What comes behind is wrong in another way.
  expect(ask(`${many(9, 'SELECT 1', ';')}; 'never closed`)).toBe('EZ');
  expect(answer.includes('C54000\0')).toBe(true);
  expect(send(parse(`${many(9, 'SELECT 1', ';')}; 'never closed`, 'p'))).toBe('E');
  expect(answer.includes('C54000\0')).toBe(true);
});

it.each([
  ['SHOW HBA', 3_000, /^TDCZ$/],
  ['SHOW HBA', 6_000, /^EZ$/],
  ['SHOW TIMELINES', 10_000, /^TDCZ$/],
  ['SHOW TIMELINES', 20_000, /^EZ$/],
])('%s of %d rows, which are no standbys, has the bound of a few', (sql, count, wanted) => {
  const text = many(count, 'host all all all trust', '\n');
  const rules = parseHba(text);
  const ancestors = Array.from({ length: count }, (_, index) => ({
    timeline: toTimelineId(index + 1),
    endLsn: toLsn(BigInt(index + 1)),
  }));
  begin(1, {
    hbaRules: () => ('rules' in rules ? rules.rules : []),
    history: () => ({ timeline: toTimelineId(count + 1), ancestors }),
  });
  expect(ask(sql)).toMatch(wanted);
});

it('what is sorted by is looked at once, however often it is named and compared', () => {
  let looks = 0;
  const standbys = Array.from({ length: 50 }, (_, pid) => ({
    ...sampleStandby({ pid }),
    get clientAddr() {
      looks += 1;
      return '10.0.0.7';
    },
  }));
  const status = sampleStatus();
  begin(1, { status: () => ({ ...status, standbys }) });
  expect(ask(`SELECT pid ${VIEW} ORDER BY ${many(60, 'client_addr', ',')}`)).toBe('TDCZ');
  expect(looks).toBe(standbys.length);
});

it('ten thousand standbys are shown whole, too', () => {
  begin(10_000);
  expect(ask(ALL)).toBe('TDCZ');
});
