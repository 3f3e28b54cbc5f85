// Who is told what by a store? They stay from one timeline to the next.
import type { Lsn } from '../pg/lsn.ts';
import { AdvanceSignal } from './advance-signal.ts';
import type { TimelineSwitchInfo } from './store-options.ts';

/** The listeners of one store. They are called from the event loop and must not throw. */
export class StoreListeners {
  readonly advance: AdvanceSignal = new AdvanceSignal();
  readonly flush: Array<() => void> = [];
  readonly takenBack: Array<(lsn: Lsn) => void> = [];
  readonly timelineSwitch: Array<(info: TimelineSwitchInfo) => void> = [];
  room: () => void = () => {};

  tellFlush(): void {
    for (const listener of this.flush) listener();
  }

  tellTakenBack(lsn: Lsn): void {
    for (const listener of this.takenBack) listener(lsn);
  }

  tellTimelineSwitch(info: TimelineSwitchInfo): void {
    for (const listener of this.timelineSwitch) listener(info);
  }
}
