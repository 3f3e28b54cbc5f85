// Which files get into the image, and do their modes depend on who cloned?
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SCRIPT = 'node "$0" "$1"';
const target = mkdtempSync(join(tmpdir(), 'walcast-files-'));

afterAll(() => {
  rmSync(target, { recursive: true });
});

it.each(['077', '022', '000'])(
  'with umask %s everybody may read them, and nobody but the owner write',
  (umask) => {
    const place = join(target, umask);
    const script = join(ROOT, 'scripts/image-files.mjs');
    execFileSync('sh', ['-c', `umask ${umask}; mkdir "$1"; ${SCRIPT}`, script, place]);
    const entries = readdirSync(place, { recursive: true, encoding: 'utf8' });
    expect(entries.length).toBeGreaterThan(20);
    for (const entry of ['', ...entries]) {
      const info = statSync(join(place, entry));
      expect([entry, info.mode & 0o7777]).toEqual([entry, info.isDirectory() ? 0o755 : 0o644]);
    }
  },
);

it('the manifest in it names no package to be installed and no script to be run', () => {
  const manifest: unknown = JSON.parse(readFileSync(join(target, '022/package.json'), 'utf8'));
  expect(Object.keys(Object(manifest)).toSorted()).toEqual([
    'bin',
    'description',
    'engines',
    'name',
    'type',
    'version',
  ]);
});

it('the licences in it are those of all packages that the program and the page hold a part of', () => {
  const text = readFileSync(join(target, '022/THIRD-PARTY-LICENCES.txt'), 'utf8');
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const page = readdirSync(join(ROOT, 'page'))
    .filter((file) => /\.(ts|css)$/.test(file))
    .map((file) => readFileSync(join(ROOT, 'page', file), 'utf8'))
    .flatMap((source) => [...source.matchAll(/(?:\bfrom|\bimport|@import) ['"]([@\w][^'"]*)/g)])
    .map((match) => /^(@[^/]+\/)?[^/]+/.exec(match[1] ?? '')?.[0] ?? '');
  expect(page).not.toEqual([]);
  const names = [...page, ...Object.keys(Reflect.get(Object(manifest), 'dependencies'))];
  expect(names.filter((name) => !text.includes(`== ${name} `))).toEqual([]);
  expect(text).not.toContain('== vitest ');
});

it('everything that the bundle asks for beside itself and Node.js is there', () => {
  const program = join(target, '022/dist/program');
  const files = readdirSync(program);
  expect(files).toContain('main.js');
  expect(files).toContain('writer-thread.js');
  let imports = 0;
  for (const file of files) {
    const text = readFileSync(join(program, file), 'utf8');
    const wanted = [...text.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)].map((match) => match[1]);
    for (const path of wanted) expect(existsSync(join(program, path ?? ''))).toBe(true);
    imports += wanted.length;
  }
  expect(imports).toBeGreaterThan(5);
});
