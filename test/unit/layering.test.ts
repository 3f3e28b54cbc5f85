// Do the rooms of the program depend on each other in the allowed direction, and does each outside thing have one door?
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** What each room may import besides itself. `config/limits` stands for that one file. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  base: [],
  pg: ['base'],
  status: ['base', 'pg'],
  wire: ['base', 'pg'],
  net: ['base', 'pg', 'wire'],
  wal: ['base', 'pg', 'status', 'config/limits'],
  slot: ['base', 'pg', 'status', 'config/limits'],
  syncrep: ['base', 'pg', 'status'],
  health: ['base', 'pg', 'status', 'config/limits'],
  walreceiver: ['base', 'pg', 'wire', 'net', 'status', 'syncrep', 'config/limits'],
  auth: ['base', 'pg', 'wire', 'status', 'config/limits'],
  walsender: ['base', 'pg', 'wire', 'net', 'auth', 'status', 'syncrep', 'config/limits'],
  console: ['base', 'pg', 'wire', 'status', 'health', 'config/limits'],
  config: ['base', 'pg', 'syncrep/standby-names'],
  metrics: ['base', 'pg', 'status', 'config'],
  http: ['base', 'pg', 'status', 'health', 'config', 'metrics'],
  relay: [
    'base',
    'pg',
    'status',
    'wire',
    'net',
    'wal',
    'slot',
    'syncrep',
    'walreceiver',
    'auth',
    'walsender',
    'console',
    'config',
    'metrics',
    'http',
    'health',
  ],
  demo: ['base', 'pg', 'wire', 'net', 'auth/scram-secret', 'walreceiver', 'status', 'config'],
  check: [
    'base',
    'pg',
    'status',
    'wire',
    'net',
    'wal',
    'walreceiver',
    'config',
    'syncrep/standby-names',
    'relay/upstream-address',
    'relay/upstream-gate',
  ],
  // The offline commands (wal verify, store import, store reset) work on a directory that no relay holds.
  cli: [
    'base',
    'pg',
    'status',
    'health',
    'config',
    'http',
    'relay',
    'check',
    'demo',
    'wal',
    'auth',
    'net/directory-lock',
    'net/https-fetch',
    'slot/slot-files',
  ],
  main: ['base', 'cli', 'config'],
};

/** Packages and builtins with one door: the rooms (or files) that may import them. */
const DOORS: readonly { readonly module: RegExp; readonly rooms: readonly string[] }[] = [
  { module: /^fastify$/, rooms: ['http'] },
  { module: /^prom-client$/, rooms: ['metrics'] },
  { module: /^pino$/, rooms: ['base/log.ts'] },
  { module: /^pg-protocol/, rooms: ['wire'] },
  { module: /^undici$/, rooms: ['net/http-get.ts', 'net/https-fetch.ts'] },
  { module: /^yaml$/, rooms: ['config'] },
  { module: /^typebox/, rooms: ['config', 'http', 'cli'] },
  { module: /^node:(net|tls|dgram|dns|dns\/promises)$/, rooms: ['net'] },
  { module: /^node:worker_threads$/, rooms: ['wal'] },
  { module: /^node:(http|https|http2)$/, rooms: [] },
  { module: /^node:(timers|timers\/promises)$/, rooms: [] },
  { module: /^node:child_process$/, rooms: ['demo', 'base/notify-command.ts'] },
];

/** Words that may stand in few files only. */
const WORDS: readonly {
  readonly word: RegExp;
  readonly files: readonly string[];
  readonly why: string;
}[] = [
  { word: /(?<![.#\w])process\.exit\b/, files: ['main.ts'], why: 'one place ends the process' },
  { word: /(?<![.#\w])process\.(on|once)\(/, files: ['main.ts'], why: 'one place handles signals' },
  {
    word: /(?<![.#\w])(setTimeout|setInterval|Date\.now|performance\.now)\b/,
    // A connection that its peer does not close is destroyed by a timer of its own.
    files: ['base/clock.ts', 'net/connection.ts'],
    why: 'time comes from the Clock that is handed in',
  },
  {
    word: /\b(pbkdf2Sync|scryptSync)\b/,
    files: [],
    why: 'keys are derived off the thread that serves WAL',
  },
  { word: /\bconsole\./, files: [], why: 'output goes through the log or the command context' },
  { word: /\bexport default\b/, files: [], why: 'exports are named' },
  {
    word: /\bimport\(/,
    files: ['main.ts'],
    why: 'imports are static, but behind the signal handlers',
  },
];

/** Lines a file may have. */
const FILE_LINES_MAX = 500;

interface SourceFile {
  /** Below src, with forward slashes. */
  readonly path: string;
  readonly room: string;
  readonly lines: number;
  /** Without comments; string literals are kept. */
  readonly code: string;
  readonly imports: readonly string[];
}

const FILES = readSources(SRC);

function readSources(directory: string): SourceFile[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const file = join(entry.parentPath, entry.name);
      const path = relative(directory, file).split(sep).join('/');
      const text = readFileSync(file, 'utf8');
      const code = withoutComments(text);
      const imports = importsOf(code).map((name) => resolveImport(file, name));
      return { path, room: roomOf(path), lines: text.split('\n').length - 1, code, imports };
    });
}

/** A relative import becomes its path below src; others stay as they are. */
function resolveImport(file: string, name: string): string {
  if (!name.startsWith('.')) return name;
  return `src:${relative(SRC, resolve(dirname(file), name))
    .split(sep)
    .join('/')}`;
}

function roomOf(path: string): string {
  return path.includes('/') ? (path.split('/')[0] ?? '') : path.replace(/\.ts$/, '');
}

/** Blanks out comments, so that words and imports named in them do not count. */
function withoutComments(text: string): string {
  return text.replaceAll(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (_match, literal: string | undefined) => literal ?? ' ',
  );
}

function importsOf(code: string): string[] {
  const statements = /(?:^|[;\n])\s*(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*["']([^"']+)["']/g;
  const dynamic = /\bimport\(\s*["']([^"']+)["']/g;
  return [statements, dynamic].flatMap((pattern) =>
    [...code.matchAll(pattern)].map(([, name = '']) => name),
  );
}

function isDoor(file: SourceFile, rooms: readonly string[]): boolean {
  return rooms.some((room) => (room.endsWith('.ts') ? file.path === room : file.room === room));
}

function isAllowed(file: SourceFile, target: string): boolean {
  const allowed = ALLOWED[file.room] ?? [];
  const room = roomOf(target);
  return (
    room === file.room || allowed.includes(room) || allowed.includes(target.replace(/\.ts$/, ''))
  );
}

describe('the check itself', () => {
  test('it sees the sources and what they import', () => {
    const imports = FILES.reduce((sum, { imports: list }) => sum + list.length, 0);
    process.stdout.write(
      `layering: ${FILES.length} files, ${imports} imports, ${new Set(FILES.map(({ room }) => room)).size} rooms\n`,
    );
    expect(FILES.length).toBeGreaterThan(50);
    expect(imports).toBeGreaterThan(FILES.length);
    expect(
      FILES.filter(({ imports: list }) => list.some((name) => name.startsWith('src:'))).length,
    ).toBeGreaterThan(30);
  });

  test.each([
    [`import { a } from 'x';`, ['x']],
    [`import type { A } from "./a.ts";`, ['./a.ts']],
    [`import './side.ts';\nimport * as b from 'b'`, ['./side.ts', 'b']],
    [`import {\n  a,\n  b,\n} from\n  'x';`, ['x']],
    [`export { a } from './a.ts';\nexport * from './b.ts';`, ['./a.ts', './b.ts']],
    [`const text = "import x from 'y'";`, []],
    [`// import { a } from 'x';\n/* import 'y' */`, []],
    [`export const from = 'x';`, []],
    [`await import('z')`, ['z']],
  ])('it reads the imports of %j', (code, names) => {
    expect(importsOf(withoutComments(code))).toEqual(names);
  });
});

describe('rooms', () => {
  test('every folder is a room of the table', () => {
    const rooms = [...new Set(FILES.map(({ room }) => room))];
    expect(rooms.filter((room) => !(room in ALLOWED))).toEqual([]);
  });

  test('imports go in the allowed direction', () => {
    const wrong = FILES.flatMap((file) =>
      file.imports
        .filter((name) => name.startsWith('src:') && !isAllowed(file, name.slice(4)))
        .map((name) => `${file.path} imports ${name.slice(4)}`),
    );
    expect(wrong).toEqual([]);
  });

  test('the table has no circle', () => {
    const visit = (room: string, path: readonly string[]): void => {
      expect(path, `${[...path, room].join(' > ')}`).not.toContain(room);
      for (const next of ALLOWED[roomOf(room)] ?? []) visit(roomOf(`${next}/`), [...path, room]);
    };
    for (const room of Object.keys(ALLOWED)) visit(room, []);
  });

  test('every import inside the program names an existing file with its ending', () => {
    const paths = new Set(FILES.map(({ path }) => path));
    const broken = FILES.flatMap((file) =>
      file.imports
        .filter(
          (name) =>
            name.startsWith('src:') && !name.startsWith('src:..') && !paths.has(name.slice(4)),
        )
        .map((name) => `${file.path} imports ${name.slice(4)}`),
    );
    expect(broken).toEqual([]);
  });
});

describe('doors', () => {
  test.each(DOORS)('$module is imported by $rooms alone', ({ module, rooms }) => {
    const wrong = FILES.filter(
      (file) => !isDoor(file, rooms) && file.imports.some((name) => module.test(name)),
    );
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  test('builtins are imported with their prefix, packages are those of package.json', () => {
    const manifest: { dependencies: Record<string, string> } = JSON.parse(
      readFileSync(join(SRC, '../package.json'), 'utf8'),
    );
    const known = Object.keys(manifest.dependencies);
    const isKnown = (name: string): boolean =>
      name.startsWith('src:') ||
      name.startsWith('node:') ||
      known.some((dependency) => name === dependency || name.startsWith(`${dependency}/`));
    const wrong = FILES.flatMap((file) =>
      file.imports.filter((name) => !isKnown(name)).map((name) => `${file.path}: ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test.each(WORDS)('$word stands in $files alone: $why', ({ word, files }) => {
    const wrong = FILES.filter(({ path, code }) => !files.includes(path) && word.test(code));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });
});

describe('budgets', () => {
  test(`no file has more than ${FILE_LINES_MAX} lines`, () => {
    const long = FILES.filter(({ lines }) => lines > FILE_LINES_MAX);
    expect(long.map(({ path, lines }) => `${path}: ${lines}`)).toEqual([]);
  });

  test('every file begins with a comment that says what it is for', () => {
    const bare = FILES.filter(
      ({ path }) => !/^(?:#![^\n]*\n)?\/\//.test(readFileSync(join(SRC, path), 'utf8')),
    );
    expect(bare.map(({ path }) => path)).toEqual([]);
  });
});
