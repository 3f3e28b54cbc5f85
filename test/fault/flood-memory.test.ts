// What does one stranger cost who has sent as much as may be kept of one, and says nothing more? (P44)
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { freePort } from '../harness/free-port.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { makeCertificate } from '../support/certificates.ts';
import { loopbackAddresses, startFlood } from '../support/flood-rig.ts';
import { probed, resourceUse } from '../support/resource-use.ts';
import type { ResourceUse } from '../support/resource-use.ts';

const CROWD = 500;
/** Of the packet that each of them sends. */
const SENT_BYTES = 10_000;
const BYTES_MAX = 64 * 1024;

let workspace: Workspace;
let relay: WalcastRelay;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
  const upstreamPort = await freePort();
  relay = await createRelay(workspace, {
    name: 'walcast',
    // Nobody is there: strangers come all the same.
    upstream: () => ({ host: '127.0.0.1', port: upstreamPort }),
    ...probed(workspace, 'walcast'),
  });
  const certificate = makeCertificate({ commonName: 'walcast' });
  const [cert, key] = [
    join(workspace.directory, 'server.crt'),
    join(workspace.directory, 'server.key'),
  ];
  await writeFile(cert, certificate.pem);
  await writeFile(key, certificate.key, { mode: 0o600 });
  relay.configure({ listen: [{ address: `127.0.0.1:${relay.port}`, tls: { cert, key } }] });
  await relay.start({ wait: false });
  await relay.process.waitForLog(/listening for standbys/);
});

afterAll(() => workspace.close());

it.each([false, true])('is at most 64 KiB (inside TLS: %s)', { timeout: 60_000 }, async (tls) => {
  // The first ones fill what is allocated once.
  await crowded(tls, 100, 0);
  const before = await alone();
  const during = await crowded(tls, CROWD, before.external + CROWD * SENT_BYTES * 0.6);
  const script = during.heapUsed + during.external - before.heapUsed - before.external;
  expect(script / CROWD).toBeLessThan(BYTES_MAX);
  // What OpenSSL and libuv hold is seen there alone, with what the heap has not given back.
  expect((during.rss - before.rss) / CROWD).toBeLessThan(2 * BYTES_MAX);
});

/** What walcast holds once everybody has gone. */
async function alone(): Promise<ResourceUse> {
  const nobody = async (): Promise<ResourceUse | null> => {
    const use = await resourceUse(workspace, relay);
    return use.sockets === 0 ? use : null;
  };
  return await pollUntil('nobody', nobody, { timeoutMs: 30_000 });
}

/** What walcast holds while so many are there, and it keeps at least so much of what they sent. */
async function crowded(tls: boolean, count: number, externalMin: number): Promise<ResourceUse> {
  const flood = await startFlood({
    kind: 'hoard',
    port: relay.port,
    connections: count,
    perSecond: 1_000,
    addresses: loopbackAddresses(8, 50),
    tls,
  });
  let external = 0;
  const all = async (): Promise<ResourceUse | null> => {
    const use = await resourceUse(workspace, relay);
    // Everybody is there, and nothing more has come since the last look.
    const isQuiet = use.external > externalMin && use.external - external < SENT_BYTES;
    external = use.external;
    return isQuiet && use.sockets >= count ? use : null;
  };
  const use = await pollUntil(`${count} strangers`, all, { timeoutMs: 30_000 });
  await flood.stop();
  return use;
}
