// Is a store that the upstream has left behind brought back by an import, and does a reset begin one anew that streams?
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { walcast } from '../support/cli.ts';
import { openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { installedMajors } from '../support/requirements.ts';

const MAJOR = Math.max(...installedMajors());
const TIMEOUT_MS = 120_000;

describe(`walcast store, with PostgreSQL ${MAJOR}`, () => {
  let rig: ClientsRig;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walcast-cli-store-'));
    rig = await openClientsRig({
      major: MAJOR,
      segmentSizeMb: 1,
      primarySettings: { wal_keep_size: '0', min_wal_size: '2MB' },
      // Without a slot, so that the primary lets go of what walcast still needs.
      relaySettings: { upstream: { slot: '' }, storage: { wal_keep_size: '1GB' } },
    });
  }, TIMEOUT_MS);

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  /** Waits until walcast has flushed all that the primary has, and finds every record of it good. */
  async function hasEverything(): Promise<void> {
    const wanted = await rig.primary.walPosition();
    await rig.relay.waitForStatus('all of it', ({ state, store }) => {
      const flushed = parseLsn(store.flushed_lsn ?? '');
      return state === 'streaming' && flushed !== null && flushed >= wanted;
    });
    const { code, out } = await walcast(['wal', 'verify', rig.relay.directory]);
    expect({ code, out }).toMatchObject({ code: 0 });
  }

  it('an import from an archive leads out of a gap', { timeout: TIMEOUT_MS }, async () => {
    await hasEverything();
    await rig.relay.stop();
    await writeWal(rig.primary, 4);
    const archive = join(directory, 'archive');
    await cp(rig.primary.walDirectory, archive, { recursive: true });
    // The segment in use stays; what is before it goes.
    await rig.primary.query('CHECKPOINT');
    await rig.primary.query('CHECKPOINT');

    await rig.relay.start({ wait: false });
    await pollUntil(
      'the state gap',
      async () => {
        const status = await rig.relay.status().catch(() => null);
        return status?.state === 'gap' ? true : null;
      },
      { timeoutMs: 60_000 },
    );
    const held = await walcast(['store', 'import', archive, '--data', rig.relay.directory]);
    expect(held.code).toBe(1);
    expect(held.err).toContain('is using data directory');
    expect((await walcast(['health', '--url', rig.relay.url])).code).toBe(2);

    await rig.relay.stop('SIGINT');
    const { code, out } = await walcast([
      'store',
      'import',
      archive,
      '--data',
      rig.relay.directory,
      '--json',
    ]);
    expect({ code, out }).toMatchObject({ code: 0 });
    const report: { newer_bytes: number } = JSON.parse(out);
    expect(report.newer_bytes).toBeGreaterThan(3 << 20);
    await rig.relay.start();
    await hasEverything();
    await writeWal(rig.primary, 1);
    await hasEverything();
  });

  it(
    'a reset begins a store anew, and its slots keep their names',
    { timeout: TIMEOUT_MS },
    async () => {
      await rig.relay.stop();
      const before = await walcast(['wal', 'ls', rig.relay.directory, '--json']);
      expect(JSON.parse(before.out)).not.toEqual([]);
      const { code } = await walcast(['store', 'reset', '--data', rig.relay.directory, '--yes']);
      expect(code).toBe(0);
      await rig.relay.start();
      await writeWal(rig.primary, 1);
      await hasEverything();
    },
  );
});
