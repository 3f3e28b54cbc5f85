// What is the writer doing, and what will it do next? Stretches of WAL with what counts once they are on the disk.
import { minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { ChainPosition } from './records/record-chain.ts';

/** Bytes of a job, about: more would make W and F move in steps that a commit can feel. */
export const JOB_BYTES: number = 4 << 20;

/** Cut short when the store is rewound meanwhile. */
export interface WriteJob {
  startLsn: Lsn;
  endLsn: Lsn;
  /** R when it was made: W once it is written. */
  receivedLsn: Lsn;
  /** F once it is flushed. */
  readonly chain: ChainPosition;
}

/** Takes what lies behind `lsn` out of the jobs. */
export function cutJobs(jobs: readonly WriteJob[], lsn: Lsn): void {
  for (const job of jobs) {
    job.endLsn = minLsn(job.endLsn, lsn);
    job.receivedLsn = minLsn(job.receivedLsn, lsn);
  }
}
