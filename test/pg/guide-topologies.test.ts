// The operations guide, typed as it stands: the topologies.
import { expect } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { GuideHosts, guideHostsProblem } from '../harness/guide-hosts.ts';
import { everywhere, GUIDE_TIMEOUT_MS } from '../harness/guide-rows.ts';
import { ONE_RELAY, runPage } from '../harness/guide-run.ts';
import { needs, requires } from '../support/requirements.ts';

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'psql');

TOOLS.describe('the operations guide', () => {
  TOOLS.it('a relay a zone, a relay behind a relay, commits through both', async (context) => {
    needs(context, guideHostsProblem());
    await using workspace = await openWorkspace(await serverUser());
    const hosts = await GuideHosts.open(workspace, [
      'pg-a',
      'relay-a',
      'relay-b',
      'standby-1',
      'standby-2',
    ]);
    await hosts.makePrimary('pg-a');
    await hosts.makeStandby('standby-1', 'pg-a');
    await hosts.makeStandby('standby-2', 'pg-a');
    await runPage(hosts, ONE_RELAY);
    let returned = 0;
    await runPage(hosts, 'docs/operations/topologies.md', {
      commit: async (run) => {
        await run();
        await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
        await hosts.stopServer('standby-2');
        let isBack = false;
        const commit = run().then(() => {
          isBack = true;
        });
        await pollUntil(
          'the commit waits',
          async () => {
            const waiting = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
            return (await hosts.sql('pg-a', waiting)) === '1' ? true : null;
          },
          { timeoutMs: GUIDE_TIMEOUT_MS },
        );
        await everywhere(hosts, 'pg-a', ['standby-1']);
        expect(isBack, 'the commit is not back without standby-2').toBe(false);
        const from = performance.now();
        await hosts.startServer('standby-2');
        await commit;
        returned = (performance.now() - from) / 1_000;
      },
    });
    await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
    process.stdout.write(`topologies: the commit returned after ${returned.toFixed(2)} s\n`);
  });
});
