// Does the bootstrap leave alone what is not this clone's own?
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

/** A clone of which nothing was compiled, and whose node_modules is a link to the folder of somebody else. */
function makeClone(): { readonly clone: string; readonly others: string } {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-bootstrap-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const others = join(directory, 'others');
  const clone = join(directory, 'clone');
  mkdirSync(join(others, 'precious'), { recursive: true });
  for (const name of ['scripts/bootstrap.mjs', 'scripts/compiled-program.mjs', 'bin/walcast.mjs']) {
    mkdirSync(dirname(join(clone, name)), { recursive: true });
    copyFileSync(join(ROOT, name), join(clone, name));
  }
  writeFileSync(join(clone, 'package-lock.json'), '{}');
  writeFileSync(join(clone, 'package.json'), '{}');
  symlinkSync(others, join(clone, 'node_modules'));
  return { clone, others };
}

test('a node_modules that is a link to another folder is refused, and that folder stays full', () => {
  const { clone, others } = makeClone();
  const { status, stderr } = spawnSync(process.execPath, [join(clone, 'scripts/bootstrap.mjs')], {
    encoding: 'utf8',
  });
  expect(stderr).toContain('node_modules is a symbolic link');
  expect(status).toBe(1);
  expect(existsSync(join(others, 'precious'))).toBe(true);
});

test('the command of a clone of which nothing was compiled begins with the bootstrap', () => {
  const { clone } = makeClone();
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(clone, 'bin/walcast.mjs'), '--version'],
    { encoding: 'utf8' },
  );
  expect([status, stderr]).toEqual([1, expect.stringContaining('walcast: node_modules is a')]);
});
