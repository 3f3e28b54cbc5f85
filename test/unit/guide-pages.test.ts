// The operations guide: is every command of it run by a test, does every link lead somewhere, and do its tables say what the sources say?
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.ts';
import { parseInput } from '../../src/cli/parse-input.ts';
import { SUPPORTED_MAJORS, versionFacts } from '../../src/pg/server-version.ts';
import { commandBlocks, GUIDE_FILES, guideBlocks, guideText } from '../support/guide-pages.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Tests that type pages. */
const TYPISTS = readdirSync(join(ROOT, 'test/pg'))
  .filter((name) => /^guide-.*\.test\.ts$/.test(name))
  .map((name) => readFileSync(join(ROOT, 'test/pg', name), 'utf8'))
  .join('\n');

/** The page that is typed before each of the others, by its constant. */
const RUN_BY_NAME: Readonly<Record<string, string>> = {
  'docs/operations/one-relay.md': 'runPage(hosts, ONE_RELAY)',
};

/** What can die, as the table of failures names it. */
const PARTS: readonly RegExp[] = [
  /^the primary; another is promoted/,
  /^the primary, killed/,
  /^walcast, killed/,
  /^walcast, frozen/,
  /^disk of walcast full/,
  /^disk of walcast fails/,
  /^disk of walcast, slow/,
  /^disk of walcast, a call that never ends/,
  /^the host of walcast, silent/,
  /^the host of walcast, for ever/,
  /^link between primary and walcast/,
  /^link between walcast and a standby/,
  /^a standby that the policy/,
  /^any other standby/,
  /^a relay before a relay/,
  /^a relay behind a relay/,
  /^the name service/,
  /^Patroni/,
  /^the clock/,
  /^a certificate of walcast expires/,
  /^the primary's certificate expires/,
  /^the password/,
  /with secrets, damaged/,
  /^the slot of walcast/,
];

describe.each(GUIDE_FILES.map((file) => [file] as const))('%s', (file) => {
  const text = guideText(file);
  const blocks = guideBlocks(file);

  it('has no command that no test types', () => {
    if (commandBlocks(blocks).length === 0) return;
    expect(TYPISTS).toContain(RUN_BY_NAME[file] ?? `'${file}'`);
  });

  it('gives commands that walcast understands, also within sentences', () => {
    for (const line of walcastCommands(text)) {
      const words = line.split(/\s+/).slice(1);
      const two = COMMANDS.flatMap((one) => one.subcommands ?? []).find(
        (one) => one.name === words.slice(0, 2).join(' '),
      );
      const command = two ?? COMMANDS.find((one) => one.name === words[0]);
      expect(command, line).toBeDefined();
      if (command === undefined || command.subcommands !== undefined) continue;
      const rest = words.slice(two === undefined ? 1 : 2);
      // Within a sentence a command may be named without what it needs.
      if (rest.length > 0) expect(parseInput(command, rest), line).toHaveProperty('input');
    }
  });

  it('leads to pages and headings that there are', () => {
    const broken = [...prose(text).matchAll(/\]\(([^)]+)\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => {
        const [path = '', anchor] = target.split('#');
        const page = path === '' ? file : join(dirname(file), path);
        if (!existsSync(join(ROOT, page))) return true;
        return anchor !== undefined && !anchorsOf(guideText(page)).includes(anchor);
      });
    expect(broken).toEqual([]);
  });

  it('names tests that there are', () => {
    for (const [, path = ''] of prose(text).matchAll(
      /`(?:test\/)?((?:unit|session|pg|fault|soak|harness)\/[\w.-]+)`/g,
    )) {
      const name = path.endsWith('.ts') ? path : `${path}.test.ts`;
      expect(existsSync(join(ROOT, 'test', name)), path).toBe(true);
    }
  });

  it('has no figure that was left out', () => {
    expect(text).not.toMatch(/MEASURED|TODO|TBD/);
  });
});

describe('the index', () => {
  const index = guideText('docs/operations.md');

  it('has every page of the guide', () => {
    for (const file of GUIDE_FILES.slice(1))
      expect(index).toContain(`](${file.slice('docs/'.length)})`);
  });
});

describe('the tables', () => {
  it('of PostgreSQL majors is what walcast knows', () => {
    const rows = rowsBehind('docs/operations/compatibility.md', '<!-- majors:');
    expect(rows.map(([major]) => Number(major))).toEqual([...SUPPORTED_MAJORS]);
    for (const [major, word] of rows) {
      const { isVerified } = versionFacts(Number(major));
      expect(word === 'tested', `${major}`).toBe(isVerified);
    }
  });

  it('of clients has the versions that are installed', () => {
    const { devDependencies } = JSON.parse(guideText('package.json')) as {
      devDependencies: Record<string, string>;
    };
    const rows = rowsBehind('docs/operations/compatibility.md', '<!-- clients:');
    const npm = rows.filter(([name = '']) => name.endsWith(' of npm'));
    expect(npm.length).toBeGreaterThan(0);
    for (const [name = '', version] of npm)
      expect(version).toBe(devDependencies[/`(\w+)`/.exec(name)?.[1] ?? '']);
  });

  it('of state files are those that the sources write and read', () => {
    const kinds = stateFileKinds();
    const rows = rowsBehind('docs/operations/upgrade.md', '<!-- formats:');
    const told = rows.map(([, writes = '', reads = '']) => `${writes} ${reads}`);
    const known = kinds.map(({ magic, version, oldest }) => {
      const read = Array.from({ length: version - oldest + 1 }, (_, at) => oldest + at);
      return `\`${magic} ${version}\` ${read.join(', ')}`;
    });
    expect(told.toSorted(compareText)).toEqual(known.toSorted(compareText));
  });

  it('of failures has a row for each part that can die, with what commits do, and the tests that its marks name', () => {
    const page = guideText('docs/operations/failures.md');
    const rows = rowsBehind('docs/operations/failures.md', '## What dies');
    for (const part of PARTS) {
      const found = rows.filter(([dies = '']) => part.test(dies));
      expect(found.length, `${part}`).toBeGreaterThan(0);
    }
    for (const row of rows) {
      expect(row.length, row[0]).toBe(5);
      expect(
        row.every((cell) => cell !== ''),
        row[0],
      ).toBe(true);
    }
    const used = new Set([...page.matchAll(/ \((\w)\)/g)].map(([, mark = '']) => mark));
    const explained = [...page.matchAll(/^\| \((\w)\) \| `/gm)].map(([, mark = '']) => mark);
    expect([...used].filter((mark) => !explained.includes(mark))).toEqual([]);
    expect(explained.filter((mark) => !used.has(mark))).toEqual([]);
  });

  it('of the directory has every name that walcast makes there', () => {
    const source = guideText('src/wal/data-directory.ts');
    const made = [...source.matchAll(/^\/\/ {3}(\S+)/gm)].map(
      ([, name = '']) => name.split('/')[0],
    );
    expect(made.length).toBeGreaterThan(5);
    const page = guideText('docs/operations/state.md');
    for (const name of made) expect(page).toMatch(new RegExp(`^\\| \`${name}/?\` \\|`, 'm'));
  });
});

describe('reading a page', () => {
  const one = (text: string): unknown => guideBlocks('page', text);

  it('takes commands with their host, files with their name, and what nobody types', () => {
    const text =
      '# a\n```sh host=relay-a prints="a b" fails\nx\n```\n```yaml host=relay-a file=/f\ny\n```\n```text\nz\n```';
    expect(guideBlocks('page', text)).toMatchObject([
      { place: 'page:2', language: 'sh', host: 'relay-a', prints: /a b/m, fails: true, text: 'x' },
      { language: 'yaml', file: '/f', text: 'y' },
      { language: 'text', host: null, text: 'z' },
    ]);
  });

  it.each([
    ['a block without a language', '```\nrm -rf /\n```', 'no language'],
    ['another language', '```python host=a\nx\n```', 'no language'],
    ['a command without a host', '```sh\nx\n```', 'on which host'],
    ['an attribute that does not exist', '```sh host=a retry=3\nx\n```', 'what is'],
    ['a file without a name', '```yaml host=a\nx\n```', 'which file'],
    ['a picture with a host', '```text host=a\nx\n```', 'not run'],
    ['a block without an end', '```sh host=a\nx', 'no end'],
  ])('refuses %s', (_name, text, problem) => {
    expect(() => one(text)).toThrow(problem);
  });
});

function compareText(left: string, right: string): number {
  return left < right ? -1 : 1;
}

/** What is not in a block. */
function prose(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, '');
}

function walcastCommands(text: string): string[] {
  const blocks = guideBlocks('page', text).flatMap((block) => block.text.split('\n'));
  const inline = [...prose(text).matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);
  return [...blocks, ...inline]
    .flatMap((line) => line.split(/ \| | -- /))
    .map((line) => line.replace(/ [<>].*$/, '').trim())
    .filter((line) => line.startsWith('walcast '));
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  return [...prose(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

/** Cells of the first table behind a mark, without its heading. */
function rowsBehind(file: string, mark: string): string[][] {
  const text = guideText(file);
  const lines = text.slice(text.indexOf(mark)).split('\n').slice(1);
  const from = lines.findIndex((line) => line.startsWith('|'));
  const table = lines.slice(from);
  const rows = table.slice(
    2,
    table.findIndex((line) => !line.startsWith('|')),
  );
  expect(rows.length).toBeGreaterThan(0);
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** Every StateFileKind in src. */
function stateFileKinds(): { magic: string; version: number; oldest: number }[] {
  const pattern =
    /StateFileKind = \{ magic: '([\w-]+)', version: (\d+)(?:, oldestVersion: (\d+))? \}/g;
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts'),
  );
  return sources.flatMap((name) =>
    [...guideText(join('src', name)).matchAll(pattern)].map(([, magic = '', version, oldest]) => ({
      magic,
      version: Number(version),
      oldest: Number(oldest ?? version),
    })),
  );
}
