// Who looks after the files of the certificates of a relay's ports?
import { afterEach, expect, it } from 'vitest';
import { PortCertificates } from '../../src/relay/port-certificates.ts';
import type { ListenTls } from '../../src/config/config.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TlsServerRig } from '../support/tls-server-rig.ts';

let rig: TlsServerRig | null = null;

afterEach(async () => {
  await rig?.close();
});

it('a port that is tried again and again has its certificate looked after once, until it is closed', async () => {
  rig = await TlsServerRig.open();
  const clock = new ManualClock();
  const tls: ListenTls = {
    cert: rig.path('server.crt'),
    key: rig.path('server.key'),
    ca: null,
    crl: null,
    clientCert: 'none',
  };
  const certificates = new PortCertificates({ clock, log: rig.log });
  const first = await certificates.acceptor('127.0.0.1:5432', tls);
  expect(first).not.toBeNull();
  expect(await certificates.acceptor('127.0.0.1:5432', tls)).toBe(first);
  expect(await certificates.acceptor('127.0.0.1:5433', tls)).not.toBe(first);
  expect(await certificates.acceptor('127.0.0.1:5434', null)).toBeNull();
  expect(certificates.status().map(({ address }) => address)).toEqual([
    '127.0.0.1:5432',
    '127.0.0.1:5433',
  ]);
  certificates.close();
  expect(clock.nextTimerMs()).toBeNull();
});
