// Rules that name other files: what they come to, in which order, and that no files name each other without an end.
import { dirname, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseHba } from '../../src/pg/hba.ts';
import type { HbaError } from '../../src/pg/hba.ts';
import type { RuleFiles } from '../../src/pg/hba-includes.ts';
import { parseIdent } from '../../src/pg/ident.ts';

/** Files that are not there but in here. */
function filesOf(contents: Readonly<Record<string, string>>): RuleFiles {
  const known = new Map(Object.entries(contents));
  return {
    resolve: (source, name) => resolve(dirname(source), name),
    read: (path) => {
      const text = known.get(path);
      return text === undefined
        ? { problem: 'No such file or directory', isMissing: true }
        : { text };
    },
    list: (path) => {
      const names = [...known.keys()].filter((name) => dirname(name) === path);
      return names.length === 0
        ? { problem: 'No such file or directory' }
        : { names: names.map((name) => name.slice(path.length + 1)) };
    },
  };
}

/** `file:line` of each rule. */
function placesOf(contents: Readonly<Record<string, string>>): string[] {
  const source = '/etc/hba';
  const parsed = parseHba(contents[source] ?? '', { source, files: filesOf(contents) });
  if (!('rules' in parsed)) throw new Error(JSON.stringify(parsed));
  return parsed.rules.map(({ source: file, line }) => `${file}:${line}`);
}

function errorsOf(contents: Readonly<Record<string, string>>): readonly HbaError[] {
  const source = '/etc/hba';
  const parsed = parseHba(contents[source] ?? '', { source, files: filesOf(contents) });
  if ('rules' in parsed) throw new Error('no errors');
  return parsed;
}

const RULE = 'host all all all reject\n';

describe('include', () => {
  test('puts the lines of a file where it stands, by a name beside the file that names it', () => {
    const places = placesOf({
      '/etc/hba': `${RULE}include sub/more\n${RULE}`,
      '/etc/sub/more': `# none\n${RULE}include "third file"\n`,
      '/etc/sub/third file': RULE,
    });
    expect(places).toEqual([
      '/etc/hba:1',
      '/etc/sub/more:2',
      '/etc/sub/third file:1',
      '/etc/hba:3',
    ]);
  });

  test('_if_exists minds no file that is missing, and one inside it that is', () => {
    expect(placesOf({ '/etc/hba': `include_if_exists nothing\n${RULE}` })).toEqual(['/etc/hba:2']);
    const errors = errorsOf({ '/etc/hba': 'include_if_exists a\n', '/etc/a': 'include nothing\n' });
    expect(errors).toMatchObject([
      {
        source: '/etc/a',
        line: 1,
        message: 'could not open file "/etc/nothing": No such file or directory',
      },
    ]);
  });

  test('_dir takes files whose names end in .conf, in the order of their bytes, hidden ones left out', () => {
    const places = placesOf({
      '/etc/hba': 'include_dir d\n',
      '/etc/d/b.conf': RULE,
      '/etc/d/a.conf': RULE,
      '/etc/d/B.conf': RULE,
      '/etc/d/.c.conf': 'nonsense\n',
      '/etc/d/a.conf~': 'nonsense\n',
      '/etc/d/.conf': 'nonsense\n',
    });
    expect(places).toEqual(['/etc/d/B.conf:1', '/etc/d/a.conf:1', '/etc/d/b.conf:1']);
  });

  test('of a file in itself ends', () => {
    expect(errorsOf({ '/etc/hba': 'include hba\n' })).toMatchObject([
      { message: 'could not open file "/etc/hba": maximum nesting depth exceeded' },
    ]);
  });

  test('of files that double each time ends before they are many', () => {
    const files = filesOf({ '/etc/hba': 'include hba\ninclude hba\ninclude hba\n' });
    let reads = 0;
    const read: RuleFiles['read'] = (path) => {
      reads += 1;
      return files.read(path);
    };
    const errors = parseHba('include hba\n', { source: '/etc/hba', files: { ...files, read } });
    expect(errors).toHaveLength(100);
    expect(reads).toBeLessThanOrEqual(100);
  });

  test('of a large file over and over ends before it is much', () => {
    const errors = errorsOf({
      '/etc/hba': 'include a\n'.repeat(50),
      '/etc/a': `# ${'x'.repeat(100_000)}\n`,
    });
    expect(errors[0]?.message).toContain('more than 4194304 characters in all files');
  });

  test('with more words than a name is a rule, and a wrong one', () => {
    expect(errorsOf({ '/etc/hba': 'include a b\n' })).toMatchObject([
      { message: 'invalid connection type "include"' },
    ]);
  });
});

describe('@', () => {
  test('puts all words of a file in its place, those of files in it too', () => {
    const contents = {
      '/etc/hba': 'host all @names,dora all reject\n',
      '/etc/names': 'anne, bert # not emil\n\n"all"\n@more\n',
      '/etc/more': 'carl\n',
    };
    const parsed = parseHba(contents['/etc/hba'], { source: '/etc/hba', files: filesOf(contents) });
    const users = 'rules' in parsed ? parsed.rules[0]?.users : [];
    expect(users?.map(({ text, isQuoted }) => (isQuoted ? `"${text}"` : text))).toEqual([
      'anne',
      'bert',
      '"all"',
      'carl',
      'dora',
    ]);
  });

  test('of a file that is not there is told; alone or quoted it is a name', () => {
    expect(errorsOf({ '/etc/hba': 'host all @names all reject\n' })).toMatchObject([
      { message: 'could not open file "/etc/names": No such file or directory' },
    ]);
    expect(placesOf({ '/etc/hba': 'host all @,"@names" all reject\n' })).toHaveLength(1);
  });

  test('of an empty file leaves the field out, as PostgreSQL does', () => {
    const errors = errorsOf({
      '/etc/hba': 'host all @names all reject\n',
      '/etc/names': '# none\n',
    });
    expect(errors[0]?.message).toBe('end-of-line before authentication method');
  });
});

describe('lines', () => {
  test.each([
    ['host all all \\\nall reject', [1]],
    ['host all all \\\n\nall reject\nlocal all all reject', null],
    [`${RULE}\\\n${RULE}`, [1, 2]],
    [`# comment \\\n${RULE}${RULE}`, [3]],
    ['host all all all reject\\', [1]],
    [`host all all all reject\\\\\n\n${RULE}`, null],
  ])('%j are rules at %j', (text, lines) => {
    const parsed = parseHba(text);
    const found = 'rules' in parsed ? parsed.rules.map(({ line }) => line) : null;
    expect(found).toEqual(lines);
  });
});

test.each(['a\n', 'a,'])('200,000 names, each followed by %j, are read', (name) => {
  const files = filesOf({ '/names': name.repeat(200_000) });
  const parsed = parseHba('host all b,@names all reject\n', { source: '/hba', files });
  const users = 'rules' in parsed ? parsed.rules[0]?.users : null;
  expect(users?.length).toBe(200_001);
});

test('a file of nothing but lines that go on takes no longer than it is long', () => {
  const started = performance.now();
  expect(parseHba('a\\\n'.repeat(300_000))).toHaveLength(1);
  expect(parseHba('hast\n'.repeat(200_000))).toHaveLength(100);
  expect(performance.now() - started).toBeLessThan(5_000);
});

test('maps name files in the same way', () => {
  const files = filesOf({ '/etc/more': 'm a b\n' });
  expect(parseIdent('include more\nm c d\n', { source: '/etc/ident', files })).toMatchObject({
    lines: [
      { source: '/etc/more', line: 1 },
      { source: '/etc/ident', line: 2 },
    ],
  });
});
