// Does every standby end where the primary is, with the primary's bytes and rows, whatever is restarted under load?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StatusJson } from '../../src/http/api-types.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { newestMajors } from '../support/requirements.ts';

describe.each(newestMajors())(
  'two standbys of PostgreSQL %i behind walcast, under load',
  (major) => {
    let scenario: RelayScenario;
    let load: WriteLoad;

    beforeAll(async () => {
      scenario = await openScenario({
        major,
        standbys: [{ name: 'with_slot', hasSlot: true }, { name: 'without_slot' }],
      });
      load = await scenario.startLoad();
      await load.waitForCommits(50);
    });

    afterAll(async () => {
      await scenario.close();
    });

    // Everything is as it should be again, and goes on.
    async function recovered(): Promise<StatusJson> {
      const status = await scenario.relay.waitForStatus(
        'walcast and two standbys streaming',
        ({ state, standbys }) =>
          state === 'streaming' &&
          standbys.filter((standby) => standby.state === 'streaming').length === 2,
      );
      await load.waitForCommits(50);
      return status;
    }

    it('stream while the primary writes', async () => {
      const status = await recovered();
      expect(status.standbys.map(({ application_name: name }) => name).toSorted()).toEqual([
        'with_slot',
        'without_slot',
      ]);
    });

    it('go on after a standby was restarted', async () => {
      await scenario.standbys[0]?.stop('fast');
      await load.waitForCommits(100);
      await scenario.standbys[0]?.start();
      await recovered();
    });

    it('go on after walcast was stopped in order', async () => {
      const end = await scenario.relay.stop('SIGTERM');
      expect(end).toEqual({ exitCode: 0, signal: null });
      await load.waitForCommits(50);
      await scenario.relay.start();
      await recovered();
    });

    it('go on after walcast was killed', async () => {
      for (let round = 0; round < 3; round += 1) {
        await scenario.relay.kill();
        await scenario.relay.start();
        await recovered();
      }
    });

    it('go on after the primary was restarted', async () => {
      await scenario.primary.restart('fast');
      await recovered();
    });

    it('end at the position of the primary, with its bytes and its rows', async () => {
      const endLsn = await scenario.settle();
      expect(await scenario.violations(endLsn)).toEqual([]);
    });
  },
);
