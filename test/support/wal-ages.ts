// What is known of the age of WAL, for tests that note it by hand.
import { CommitTimes } from '../../src/syncrep/lag-commit-times.ts';
import { WalTimes } from '../../src/syncrep/lag-wal-times.ts';

/** Nothing is known yet. */
export class TestWalAges {
  readonly wal: WalTimes = new WalTimes({ samplesMax: 64 });
  readonly commits: CommitTimes = new CommitTimes({ samplesMax: 64 });
}
