// Does systemd take our unit, and how much is the service shut in?
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT } from '../../src/cli/command.ts';
import { DRAIN_CLOSE_MS_MAX } from '../../src/config/limits.ts';
import { settingOf } from '../../src/config/settings.ts';
import { requires } from '../support/requirements.ts';

const FOLDER = new URL('../../deploy/systemd/', import.meta.url);
const PAGE = readFileSync(new URL('../../docs/systemd.md', import.meta.url), 'utf8');
const UNIT = readFileSync(new URL('walcast.service', FOLDER), 'utf8');

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-unit-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** The unit, with the program that runs here in the place of Node's: it is looked for. */
function write(name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(file, text.replace('/usr/bin/node', process.execPath));
  return file;
}

function analyze(...args: readonly string[]): {
  readonly status: number | null;
  readonly text: string;
} {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], SYSTEMD_COLORS: '0', SYSTEMD_PAGER: '' },
  });
  return { status, text: `${stdout}${stderr}` };
}

function value(key: string): string {
  return (
    UNIT.split('\n')
      .findLast((line) => line.startsWith(`${key}=`))
      ?.slice(key.length + 1) ?? ''
  );
}

const { it } = requires('systemd-analyze');

it('it has no line that systemd does not know, and none that it ignores', () => {
  expect(analyze('verify', write('walcast.service', UNIT))).toEqual({ status: 0, text: '' });
  const wrong = UNIT.replace(
    'ProtectSystem=strict',
    'ProtectSystem=strictly\nProtectEverything=yes',
  );
  const { text } = analyze('verify', write('wrong.service', wrong));
  expect(text).toContain('ProtectEverything');
  expect(text).toContain('strictly');
});

it('its exposure is what the page says', () => {
  const file = write('walcast.service', UNIT);
  const { text } = analyze('security', '--offline=true', '--no-pager', '--threshold=20', file);
  const exposure = /Overall exposure level for walcast\.service: ([\d.]+) OK/.exec(text)?.[1];
  expect(exposure).toBeDefined();
  expect(PAGE).toContain(`Overall exposure level for walcast.service: ${exposure} OK`);
});

test('it waits longer than a drain takes, and does not start again what cannot run', () => {
  const drain = /^(\d+)s$/.exec(settingOf('drain_timeout')?.defaultText ?? '')?.[1];
  const stop = /^(\d+)s$/.exec(value('TimeoutStopSec'))?.[1];
  expect(Number(stop) * 1000).toBeGreaterThan(Number(drain) * 1000 + 2 * DRAIN_CLOSE_MS_MAX);
  expect(value('RestartPreventExitStatus')).toBe(`${EXIT.usage} ${EXIT.configuration}`);
  expect(value('Type')).toBe('notify');
  expect(value('NotifyAccess')).toBe('all');
});

test('a start that fails at once is tried again for as long as it fails', () => {
  expect(value('Restart')).toBe('on-failure');
  // systemd's own limit, five starts in ten seconds, would leave it down: RestartSec= is shorter than that.
  expect(value('StartLimitIntervalSec')).toBe('0');
  const [, service] = UNIT.split('[Service]');
  expect(service).not.toContain('StartLimit');
});

test('every line of the unit and of its drop-ins that shuts something in is told on the page', () => {
  for (const name of [
    'walcast.service',
    'walcast.sysusers',
    'without-notify.conf',
    'notify-reload.conf',
  ]) {
    expect(PAGE).toContain(name);
  }
  for (const key of [
    'ProtectSystem',
    'RestrictAddressFamilies',
    'SystemCallFilter',
    'CapabilityBoundingSet',
    'MemoryDenyWriteExecute',
    'WatchdogSec',
    'StateDirectory',
    'LimitNOFILE',
  ]) {
    expect(PAGE).toContain(`\`${key}`);
  }
});
