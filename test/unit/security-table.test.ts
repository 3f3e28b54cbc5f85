// Is docs/security.md true of the suites? Every test that it names is there, under that name, and every threat has one.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const TEXT = readFileSync(new URL('docs/security.md', ROOT), 'utf8');

interface Row {
  readonly threat: string;
  readonly tests: string;
}

/** Of the tables of threats, without their heads. */
const ROWS: readonly Row[] = TEXT.split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| threat'))
  .map((line) => {
    const [, threat = '', , tests = ''] = line.split('|').map((cell) => cell.trim());
    return { threat, tests };
  });

/** Words of fewer characters are in many a file by chance. */
const WORDS_LENGTH_MIN = 10;

/** `unit/http-tls` "the name of a test": the file and the words. */
function namedTests(cell: string): { file: string; words: string }[] {
  return [...cell.matchAll(/`([a-z]+\/[a-z0-9-]+)` "([^"]+)"/g)].map(
    ([, file = '', words = '']) => ({ file, words }),
  );
}

describe('the table of threats', () => {
  it('has rows, and a head for each table', () => {
    expect(ROWS.length).toBeGreaterThan(35);
    const heads = TEXT.split('\n').filter((line) => line.startsWith('| threat'));
    expect(new Set(heads)).toEqual(new Set(['| threat | what walcast does | shown by |']));
  });

  it.each(ROWS)('shows by a test: $threat', ({ tests }) => {
    const named = namedTests(tests);
    expect(named.length).toBeGreaterThan(0);
    // Nothing else is in that cell: a test that is written in another way would not be looked for.
    const rest = tests.replaceAll(/`[a-z]+\/[a-z0-9-]+` "[^"]+"/g, '');
    expect(rest.replaceAll(/[;\s]/g, '')).toBe('');
    for (const { file, words } of named) {
      const path = new URL(`test/${file}.test.ts`, ROOT);
      const content = existsSync(path) ? readFileSync(path, 'utf8') : '';
      // In one literal, as the names of tests are, and not in a comment.
      const isThere = content.split('\n').some((line) => {
        const at = line.indexOf(words);
        return at > 0 && /['"`]/.test(line.slice(0, at)) && !/^\s*(\/\/|\*)/.test(line);
      });
      expect({ file, words, isThere }).toEqual({ file, words, isThere: true });
      expect(words.length, words).toBeGreaterThanOrEqual(WORDS_LENGTH_MIN);
    }
  });

  it('says what it does not protect against', () => {
    const [, open = ''] = TEXT.split('## What it does not protect against');
    expect(open.split('\n## ')[0]?.match(/^\* \*\*/gm)?.length).toBeGreaterThan(5);
  });
});
