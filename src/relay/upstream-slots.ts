// Slots that walcast made on upstream servers: remembered over restarts, listed where they were left behind, and dropped
// when that host is reached and another one has been followed for a while. A slot that somebody else made is only listed.
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import {
  errorText,
  InvariantError,
  OperationalError,
  systemErrorCode,
  WalcastError,
} from '../base/errors.ts';
import type { Log, LogFields } from '../base/log.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { Wakeup } from '../base/wakeup.ts';
import { LEFT_SLOTS_MAX } from '../config/limits.ts';
import { formatTarget } from '../net/dial.ts';
import type { Dial } from '../net/dial.ts';
import { formatLsn, maxLsn, parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { LeftSlotStatus } from '../status/status.ts';
import { UPSTREAM_SLOTS_FILE_NAME } from '../wal/data-directory.ts';
import { LeftSlots } from '../walreceiver/left-slots.ts';
import type { KnownSlot } from '../walreceiver/left-slots.ts';
import type { SlotUses } from '../walreceiver/ports.ts';
import { dropLeftSlot } from '../walreceiver/slot-errand.ts';
import type { ErrandOutcome, PresentServer } from '../walreceiver/slot-errand.ts';
import { hostKey } from '../walreceiver/upstream-hosts.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';

/** What the slots of one relay need. */
export interface UpstreamSlotsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  /** `storage.directory`; null: nothing outlives the process. */
  readonly directory: string | null;
  /** Where the upstream is, with the passwords of today. */
  readonly target: () => UpstreamTarget;
  readonly applicationName: () => string;
  readonly receiverTimeoutMs: () => number;
  /** Our own durable end. */
  readonly flushedLsn: () => Lsn;
  /** The server that WAL streams from; null while none does. */
  readonly present: () => PresentServer | null;
  /** A slot that was left behind is gone. */
  readonly onDropped?: (host: UpstreamHost, slot: string) => void;
}

const KIND: StateFileKind = { magic: 'walcast-upstream-slots', version: 1 };

/** How soon it is looked again whether the server that is followed still says something; without a word from it nothing is dropped. */
export const LEFT_SLOT_LOOK_MS: number = 5_000;

/** A timer that fires so much later says that this process did not run. */
const LATE_MS = 1_000;

interface Errand {
  readonly known: KnownSlot;
  readonly present: PresentServer;
}

/** How a host was reached that the present connection string may not have any more. */
interface Reached {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
}

/** Told by walreceivers, one after the other. */
export class UpstreamSlots implements SlotUses {
  readonly #parts: UpstreamSlotsParts;
  readonly #slots: LeftSlots = new LeftSlots();
  readonly #wakeup: Wakeup;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  readonly #reached = new Map<string, Reached>();
  #errand: AbortController | null = null;
  #saving: Promise<void> | null = null;
  #isUnsaved = false;
  /** What the file says: it is not written again for the same. */
  #saved = '[]';
  #isLoaded = false;
  #isClosed = false;
  #isAbandoned = false;

  constructor(parts: UpstreamSlotsParts) {
    this.#parts = parts;
    this.#wakeup = new Wakeup(parts.clock, () => this.#onDue());
  }

  /** Reads what earlier processes made. A file that cannot be read is told of and taken for empty: then slots are only listed. */
  async load(): Promise<void> {
    const { directory, log } = this.#parts;
    if (directory !== null) {
      try {
        const content = await loadStateFile(join(directory, UPSTREAM_SLOTS_FILE_NAME), KIND);
        const slots = parseSlots(content?.body);
        this.#saved = JSON.stringify(slots.map(savedForm));
        this.#slots.restore(slots);
      } catch (error) {
        if (!(error instanceof OperationalError) && systemErrorCode(error) === null) throw error;
        log.warn(
          `slots on upstream servers that an earlier process made are not known, so they are not dropped: ${errorText(error)}`,
        );
      }
    }
    this.#isLoaded = true;
    if (this.#isUnsaved) this.#save();
    this.#arm();
  }

  created(host: UpstreamHost, slot: string, systemIdentifier: string): void {
    this.#reach(host);
    this.#slots.created(host, slot, systemIdentifier);
    this.#save();
  }

  dropped(host: UpstreamHost, slot: string): void {
    this.#slots.dropped(host, slot);
    this.#save();
  }

  used(host: UpstreamHost, slot: string | null, systemIdentifier: string): void {
    const before = new Set(this.#slots.left().map((known) => placeOf(known)));
    this.#reach(host);
    this.#slots.used({ host, slot, systemIdentifier }, this.#parts.clock.nowMs());
    for (const known of this.#slots.left()) if (!before.has(placeOf(known))) this.#say(known);
    this.#save();
    this.#arm();
  }

  idle(restartLsn: Lsn): void {
    this.#slots.idle(maxLsn(this.#parts.flushedLsn(), restartLsn));
    this.#errand?.abort();
    this.#save();
  }

  /** Those left behind. */
  status(): LeftSlotStatus[] {
    return this.#slots.left().map(({ host, slot, isOurs }) => {
      return { host: host.host, port: host.port, slot, isOurs };
    });
  }

  /** The disk has failed: nothing is saved from here on, and nothing said about it. */
  abandon(): void {
    this.#isClosed = true;
    this.#isAbandoned = true;
  }

  /** No more errands. Resolves when nothing is being saved any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wakeup.cancel();
    this.#errand?.abort();
    await this.#saving;
  }

  #say({ host, slot, isOurs }: KnownSlot): void {
    const where = { upstream: formatTarget(host), slot };
    const what = `replication slot "${slot}" stays on a server that is not followed now, and keeps all WAL there`;
    if (isOurs) this.#parts.log.info(`${what}; walcast made it, and drops it soon`, where);
    else this.#parts.log.warn(`${what}; drop it there when nobody needs it`, where);
  }

  #reach(host: UpstreamHost): void {
    const target = this.#parts.target();
    this.#reached.delete(hostKey(host));
    this.#reached.set(hostKey(host), { target, host });
    const [oldest] = this.#reached.keys();
    if (this.#reached.size > LEFT_SLOTS_MAX && oldest !== undefined) this.#reached.delete(oldest);
  }

  /** As the connection string of today reaches it, else as it was reached; null when this process never did. */
  #wayTo(host: UpstreamHost): Reached | null {
    const key = hostKey(host);
    const target = this.#parts.target();
    const listed = target.hosts.find((other) => hostKey(other) === key);
    return listed === undefined ? (this.#reached.get(key) ?? null) : { target, host: listed };
  }

  #arm(): void {
    if (this.#isClosed || this.#errand !== null || !this.#isLoaded) return;
    const dueAtMs = this.#slots.nextDueAtMs();
    if (dueAtMs === null) return;
    const nowMs = this.#parts.clock.nowMs();
    const wakeAtMs = dueAtMs > nowMs ? dueAtMs : nowMs + LEFT_SLOT_LOOK_MS;
    this.#wakeAtMs = Math.min(this.#wakeAtMs, wakeAtMs);
    this.#wakeup.ensure(wakeAtMs);
  }

  #onDue(): void {
    const { clock, present: ofPresent } = this.#parts;
    const nowMs = clock.nowMs();
    // What was sent before we stopped may be unread yet, so it proves nothing.
    if (nowMs > this.#wakeAtMs + LATE_MS) this.#slots.stalled(nowMs);
    this.#wakeAtMs = Number.POSITIVE_INFINITY;
    const present = ofPresent();
    const known = present === null ? null : this.#slots.due(nowMs, present.heardAtMs);
    if (present !== null && known !== null && this.#errand === null) {
      void this.#run({ known, present });
    }
    this.#arm();
  }

  async #run(errand: Errand): Promise<void> {
    const abort = new AbortController();
    this.#errand = abort;
    try {
      const outcome = await this.#drop(errand, abort.signal);
      this.#note(errand.known, outcome);
    } finally {
      this.#errand = null;
      this.#arm();
    }
  }

  async #drop({ known, present }: Errand, signal: AbortSignal): Promise<ErrandOutcome> {
    const { clock, log, dial, applicationName, receiverTimeoutMs, flushedLsn } = this.#parts;
    const way = this.#wayTo(known.host);
    if (way === null)
      return { kind: 'refused', why: 'upstream.conninfo does not name it any more' };
    const session = {
      ...way,
      applicationName: applicationName(),
      receiverTimeoutMs: receiverTimeoutMs(),
      clock,
      log,
      dial,
      signal,
    };
    try {
      return await dropLeftSlot(session, known, { flushedLsn: flushedLsn(), present });
    } catch (error) {
      if (!(error instanceof WalcastError) || error instanceof InvariantError) throw error;
      return { kind: 'refused', why: error.message };
    }
  }

  #note(known: KnownSlot, outcome: ErrandOutcome): void {
    const { host, slot } = known;
    const { clock, log } = this.#parts;
    const where = { upstream: formatTarget(host), slot };
    switch (outcome.kind) {
      case 'dropped':
        log.info('a replication slot that walcast had left behind is dropped', where);
        this.dropped(host, slot);
        this.#parts.onDropped?.(host, slot);
        return;
      case 'present':
        this.#slots.sameAsPresent(host, slot);
        this.#save();
        return;
      case 'taken':
        this.#slots.disowned(host, slot);
        this.#sayTaken(outcome.why, where);
        return;
      case 'in-use':
        if (this.#slots.inUse(host, slot, clock.nowMs())) this.#sayTaken(outcome.why, where);
        return;
      case 'refused':
        log.debug(
          `a replication slot that walcast left behind is still there: ${outcome.why}`,
          where,
        );
        this.#slots.refused(host, slot, clock.nowMs());
        return;
    }
  }

  #sayTaken(why: string, where: LogFields): void {
    this.#parts.log.warn(
      `a replication slot that walcast left behind is left alone: ${why}`,
      where,
    );
    this.#save();
  }

  /** The newest state is written once more when it changed meanwhile; never two at a time. */
  #save(): void {
    this.#isUnsaved = true;
    if (!this.#isLoaded || this.#saving !== null || this.#isClosed) return;
    this.#saving = this.#saveAll().finally(() => {
      this.#saving = null;
    });
  }

  async #saveAll(): Promise<void> {
    const { directory, log } = this.#parts;
    while (this.#isUnsaved && directory !== null && !this.#isAbandoned) {
      this.#isUnsaved = false;
      try {
        const body = this.#slots.ours().map(savedForm);
        const text = JSON.stringify(body);
        if (text === this.#saved) continue;
        await saveStateFile(join(directory, UPSTREAM_SLOTS_FILE_NAME), KIND, body);
        this.#saved = text;
      } catch (error) {
        if (systemErrorCode(error) === null && !(error instanceof OperationalError)) throw error;
        if (this.#isAbandoned) return;
        log.warn(`which slots walcast made on upstream servers was not saved: ${errorText(error)}`);
      }
    }
  }
}

function placeOf({ host, slot }: KnownSlot): string {
  return `${hostKey(host)} ${slot}`;
}

function savedForm(known: KnownSlot): Record<string, string | number> {
  const { host, slot, systemIdentifier, releasedLsn } = known;
  const { host: name, address, port } = host;
  const released = releasedLsn === null ? {} : { released_lsn: formatLsn(releasedLsn) };
  return { host: name, address, port, slot, system_identifier: systemIdentifier, ...released };
}

function parseSlots(body: unknown): KnownSlot[] {
  if (!Array.isArray(body)) return [];
  return body.slice(0, LEFT_SLOTS_MAX).flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return [];
    const text = (key: string): string => {
      const value: unknown = Reflect.get(entry, key);
      return typeof value === 'string' ? value : '';
    };
    const port: unknown = Reflect.get(entry, 'port');
    const [host, address, slot] = [text('host'), text('address'), text('slot')];
    if (host === '' || address === '' || slot === '' || typeof port !== 'number') return [];
    const systemIdentifier = text('system_identifier');
    const place = { host, address, port, password: null };
    const releasedLsn = parseLsn(text('released_lsn'));
    return [{ host: place, slot, systemIdentifier, isOurs: true, releasedLsn }];
  });
}
