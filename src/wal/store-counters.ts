// What has happened to the store since the start, in numbers?
import type { StoreStatus } from '../status/status.ts';
import { DurationCounter } from './duration-histogram.ts';

type ErrorKind = keyof StoreStatus['errors'];

/** Counters of one store; changed from everywhere, read by its status. */
export class StoreCounters {
  readonly flushDuration: DurationCounter = new DurationCounter();
  readonly writeDuration: DurationCounter = new DurationCounter();
  rejectedFromUpstream = 0;
  rejectedFromDisk = 0;
  readonly #errors: Record<ErrorKind, number> = { open: 0, write: 0, fsync: 0, read: 0, remove: 0 };

  countError(kind: ErrorKind): void {
    this.#errors[kind]++;
  }

  errors(): StoreStatus['errors'] {
    return { ...this.#errors };
  }
}
