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
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const SCRIPTS = join(import.meta.dirname, '../../scripts');

test('a node_modules that is a link to another folder is refused, and that folder stays full', () => {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-bootstrap-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const others = join(directory, 'others');
  const clone = join(directory, 'clone');
  mkdirSync(join(others, 'precious'), { recursive: true });
  mkdirSync(join(clone, 'scripts'), { recursive: true });
  for (const name of ['bootstrap.mjs', 'compiled-program.mjs']) {
    copyFileSync(join(SCRIPTS, name), join(clone, 'scripts', name));
  }
  writeFileSync(join(clone, 'package-lock.json'), '{}');
  writeFileSync(join(clone, 'package.json'), '{}');
  symlinkSync(others, join(clone, 'node_modules'));
  const { status, stderr } = spawnSync(process.execPath, [join(clone, 'scripts/bootstrap.mjs')], {
    encoding: 'utf8',
  });
  expect(stderr).toContain('node_modules is a symbolic link');
  expect(status).toBe(1);
  expect(existsSync(join(others, 'precious'))).toBe(true);
});
