// Does `walcast check --deep` look at the servers that Patroni names, and say so when it cannot be asked?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { freePort } from '../harness/free-port.ts';
import { memberAt, openPatroniApi } from '../harness/patroni-api.ts';
import { checkDeep } from '../support/check-command.ts';
import type { CheckEnd } from '../support/check-command.ts';

function check(url: string, port: number): Promise<CheckEnd> {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-check-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return checkDeep([
    `--upstream=host=127.0.0.1 port=${port} user=me sslmode=disable`,
    `--set=upstream.discovery.patroni=${url}`,
    `--data=${directory}`,
    '--http=',
    '--listen=127.0.0.1:0',
    '--set=auth.hba=host replication all 127.0.0.1/32 reject',
  ]);
}

const subjects = ({ findings }: CheckEnd): string[] =>
  findings.filter(({ code }) => code === 'upstream.unreachable').map(({ subject }) => subject);

test('every server that Patroni names is tried, in place of those of the connection string', async () => {
  await using patroni = await openPatroniApi();
  const [standby, leader, other] = [await freePort(), await freePort(), await freePort()];
  patroni.members = [memberAt('a', standby), memberAt('b', leader, { role: 'leader' })];
  const end = await check(patroni.url, other);
  expect(end.one('upstream.discovery')).toMatchObject({
    severity: 'ok',
    subject: 'upstream.discovery.patroni',
    message: `Patroni names 127.0.0.1:${leader} (primary, preferred), 127.0.0.1:${standby} (standby, other)`,
  });
  expect(subjects(end)).toEqual([`127.0.0.1:${leader}`, `127.0.0.1:${standby}`]);
});

test('the servers of the connection string are tried where Patroni does not answer, with a warning', async () => {
  await using patroni = await openPatroniApi();
  patroni.isDown = true;
  const port = await freePort();
  const end = await check(patroni.url, port);
  expect(end.one('upstream.discovery')).toMatchObject({
    severity: 'warning',
    message: expect.stringMatching(
      /^Patroni does not answer: .*answered with status 503; the hosts of upstream\.conninfo/,
    ),
  });
  expect(subjects(end)).toEqual([`127.0.0.1:${port}`]);
});
