// Is a log line one line, whatever a peer put into it?
import { describe, expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import type { Log, LogFormat } from '../../src/base/log.ts';

function open(format: LogFormat): { log: Log; written: string[] } {
  const written: string[] = [];
  const destination = { write: (text: string) => void written.push(text) };
  return { log: openLog({ level: 'debug', format, destination }), written };
}

/** What a terminal or a reader of lines takes for more than a character: C0, DEL, C1, line ends, direction marks. */
const HOSTILE = [
  ...Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)),
  ...Array.from({ length: 33 }, (_, index) => String.fromCharCode(0x7f + index)),
  '\u2028',
  '\u2029',
  '\u200e',
  '\u202e',
  '\u2066',
];

describe('the text format', () => {
  test('a line has time, level, message and fields', () => {
    const { log, written } = open('text');
    log.child({ component: 'relay' }).warn('it happened', { lsn: '0/3000060', why: 'two words' });
    expect(written).toEqual([
      expect.stringMatching(
        /^\d{4}-\d\d-\d\dT[\d:.]+Z WARN {2}it happened component=relay lsn=0\/3000060 why="two words"\n$/,
      ),
    ]);
  });

  test('a message with a line end in it stays one line', () => {
    const { log, written } = open('text');
    log.error('refused: a\r\n2026-01-01T00:00:00.000Z INFO  all is well \u001b[2J');
    expect(written).toHaveLength(1);
    expect(written[0]).toMatch(/ ERROR refused: a\\r\\n2026\S+ INFO {2}all is well \\u001b\[2J\n$/);
  });

  test.each(HOSTILE.map((character) => [JSON.stringify(character), character]))(
    '%s is escaped in a message and in a value',
    (_shown, character) => {
      const { log, written } = open('text');
      log.info(`m${character}m`, { name: `v${character}v`, spaced: `v ${character} v` });
      expect(written).toHaveLength(1);
      expect(written[0]?.indexOf('\n')).toBe((written[0]?.length ?? 0) - 1);
      expect(written[0]?.slice(0, -1)).not.toContain(character);
    },
  );

  test('letters of every script stay readable', () => {
    const { log, written } = open('text');
    log.info('größer 数据 \u{1F600}', { name: 'größe数据\u{1F600}' });
    expect(written[0]).toMatch(/ größer 数据 \u{1F600} name=größe数据\u{1F600}\n$/u);
  });
});

test.each(HOSTILE.map((character) => [JSON.stringify(character), character]))(
  'the JSON format escapes %s, and says the same',
  (_shown, character) => {
    const { log, written } = open('json');
    log.info(`m${character}"größer数据`, { name: `v${character}v` });
    expect(written).toHaveLength(1);
    expect(written[0]).toMatch(/^[^\n]*\n$/);
    expect(written[0]?.slice(0, -1)).not.toContain(character);
    expect(written[0]).toContain('größer数据');
    const said: unknown = JSON.parse(written[0] ?? '');
    expect(said).toMatchObject({ msg: `m${character}"größer数据`, name: `v${character}v` });
  },
);

test('level and format can be changed for every log that was made before', () => {
  const written: string[] = [];
  const destination = { write: (text: string) => void written.push(text) };
  const log = openLog({ level: 'warn', format: 'json', destination });
  const child = log.child({ component: 'wal' });
  child.info('too low');
  log.adjust({ level: 'debug', format: 'text' });
  child.debug('now');
  log.adjust({ level: 'error', format: 'json' });
  child.warn('too low again');
  child.error('last');
  expect(written).toEqual([
    expect.stringMatching(/ DEBUG now component=wal\n$/),
    expect.stringMatching(/^\{"level":"error".*"component":"wal","msg":"last"\}\n$/),
  ]);
});
