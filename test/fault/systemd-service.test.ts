// Does walcast work as the service that our unit makes of it, under a real systemd with all its hardening: started, reloaded, watched,
// started anew, and drained?
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TestContext } from 'vitest';
import { stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { freePort } from '../harness/free-port.ts';
import { OwnSystemd, ownSystemdProblem } from '../harness/own-systemd.ts';
import { RawClient, StreamReader, query } from '../support/raw-client.ts';
import { needs } from '../support/requirements.ts';
import { PlayedUpstream, playedWal } from './process-rig.ts';

const PROBLEM = ownSystemdProblem();
const LOG = '/run/walcast.log';

let systemd: OwnSystemd;
let upstream: PlayedUpstream;
let port: number;
const opened: AsyncDisposable[] = [];

beforeAll(async () => {
  if (PROBLEM !== null) return;
  upstream = await PlayedUpstream.open(playedWal(300_000));
  opened.push(upstream);
  port = await freePort();
  systemd = await OwnSystemd.open();
  opened.push(systemd);
  await systemd.write(
    '/etc/walcast/walcast.yaml',
    stringify({
      upstream: {
        conninfo: `host=127.0.0.1 port=${upstream.port} user=x sslmode=disable`,
        slot: '',
      },
      listen: [{ address: `127.0.0.1:${port}` }],
      auth: { hba: 'host replication all samehost trust\n' },
      storage: { directory: '/var/lib/walcast' },
      http: { listen: '' },
      drain_timeout: '1s',
    }),
  );
  // There is no journal, and a minute is too long for a test.
  await systemd.write(
    '/run/systemd/system/walcast.service.d/test.conf',
    `[Service]\nStandardError=append:${LOG}\nWatchdogSec=2s\n`,
  );
  await systemd.systemctl('daemon-reload');
});

afterAll(async () => {
  for (const each of opened.toReversed()) await each[Symbol.asyncDispose]();
});

async function log(): Promise<string> {
  return (await systemd.run(['cat', LOG])).text;
}

/** A standby that gets all WAL from the service. */
async function standby(): Promise<StreamReader> {
  const { startLsn, endLsn } = upstream.fixture;
  // Before the upstream was identified nobody is served (57P03).
  const isStored = async (): Promise<true | null> =>
    upstream.statuses.some(({ flush }) => flush === endLsn) || null;
  await pollUntil('everything to be acknowledged', isStored, { timeoutMs: 30_000 });
  const { client } = await RawClient.standby(port);
  const at = `${(startLsn >> 32n).toString(16)}/${(startLsn & 0xffff_ffffn).toString(16)}`;
  client.send(query(`START_REPLICATION ${at} TIMELINE 1`));
  await client.next();
  const reader = new StreamReader(client, startLsn);
  await reader.readTo(endLsn);
  return reader;
}

describe('the service', () => {
  beforeEach((context: TestContext) => needs(context, PROBLEM));

  it('is active when every port is open, shut in, and serves standbys', async () => {
    expect(await systemd.systemctl('start', 'walcast')).toEqual({ status: 0, text: '' });
    (await RawClient.open(port)).socket.destroy();
    const shown = await systemd.show();
    expect(shown).toMatchObject({ ActiveState: 'active', SubState: 'running', Result: 'success' });
    expect(shown['StatusText']).toMatch(/^\w+.*; 0 standbys/);
    const { text } = await systemd.run(['cat', `/proc/${shown['MainPID']}/status`]);
    expect(text).toMatch(/^CapBnd:\t0+$/m);
    expect(text).toMatch(/^NoNewPrivs:\t1$/m);
    expect(text).toMatch(/^Seccomp:\t2$/m);
    expect(text).not.toMatch(/^Uid:\t0\b/m);
    await standby();
  });

  it('reloads, and is active again', async () => {
    const pid = (await systemd.show())['MainPID'];
    expect(await systemd.systemctl('reload', 'walcast')).toEqual({ status: 0, text: '' });
    await systemd.until({ ActiveState: 'active', MainPID: pid ?? '' });
    await expect.poll(log, { timeout: 10_000 }).toContain('the configuration was read again');
  });

  it('that does not turn any more is killed and started anew, and standbys go on', async () => {
    const { MainPID: pid = '' } = await systemd.show();
    await systemd.run(['kill', '-STOP', pid]);
    upstream.statuses.splice(0);
    await systemd.until({ NRestarts: '1', ActiveState: 'active', SubState: 'running' });
    expect((await systemd.show())['MainPID']).not.toBe(pid);
    await standby();
  });

  it('that is stopped drains', async () => {
    expect(await systemd.systemctl('stop', 'walcast')).toEqual({ status: 0, text: '' });
    expect(await systemd.show()).toMatchObject({ ActiveState: 'inactive', Result: 'success' });
    expect(await log()).toContain('walcast stops after draining');
    expect(await log()).not.toContain('the service manager could not be told');
  });

  it('whose configuration is bad is not started again and again', async () => {
    await systemd.write('/etc/walcast/walcast.yaml', 'upstraem: {}\n');
    expect((await systemd.systemctl('start', 'walcast')).status).toBe(1);
    expect(await systemd.show()).toMatchObject({
      ActiveState: 'failed',
      ExecMainStatus: '78',
      NRestarts: '0',
    });
    expect(await log()).toContain('unknown key `upstraem`');
  });
});
