// Is what docs/systemd.md copies to /opt/walcast all that walcast needs there? Its line is typed, into another folder.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { runCommand } from '../../src/demo/postgres-user.ts';
import { freePort } from '../harness/free-port.ts';

const ROOT = join(import.meta.dirname, '../..');

test('what is installed runs without the clone, also where HTTPS is spoken, and whatever the umask of root', async () => {
  const page = readFileSync(join(ROOT, 'docs/systemd.md'), 'utf8');
  const lines = /^## Installing\n+```\n([\s\S]*?)^```$/m.exec(page)?.[1]?.split('\n') ?? [];
  const copying = lines.filter((line) => / \/opt\/walcast\b/.test(line));
  expect(copying).not.toEqual([]);
  const base = mkdtempSync(join(tmpdir(), 'walcast-install-'));
  onTestFinished(() => rmSync(base, { recursive: true, force: true }));
  const target = join(base, 'walcast');
  for (const line of copying) {
    const typed = `umask 077; ${line.replaceAll('/opt/walcast', target)}`;
    const done = await runCommand('sh', ['-ec', typed], { user: null, cwd: ROOT });
    expect([line, done.exitCode, done.stderr]).toEqual([line, 0, '']);
  }
  for (const name of ['', 'bin/walcast.mjs', 'dist', 'dist/program/main.js', 'package.json']) {
    expect([name, statSync(join(target, name)).mode & 0o044]).toEqual([name, 0o044]);
  }
  const unit = readFileSync(join(ROOT, 'deploy/systemd/walcast.service'), 'utf8');
  const [, documentation = ''] = /^Documentation=file:\/opt\/walcast\/(.*)$/m.exec(unit) ?? [];
  expect([documentation, existsSync(join(target, documentation))]).toEqual([documentation, true]);
  const url = `https://127.0.0.1:${await freePort()}`;
  const words = ['bin/walcast.mjs', 'status', '--url', url];
  const asked = await runCommand(process.execPath, words, { user: null, cwd: target });
  expect(asked.stderr).toContain('ECONNREFUSED');
  expect(asked.exitCode).toBe(1);
});
