// What is the service manager told, and when? READY=1, RELOADING=1, STOPPING=1, a line of status, signs of life. Without
// processes and sockets: messages go through a function. (sd_notify(3), systemd.service(5))
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Notify } from '../base/notify-command.ts';
import {
  NOTIFY_EXTEND_EVERY_MS,
  NOTIFY_EXTEND_MS,
  NOTIFY_STATUS_LENGTH_MAX,
  NOTIFY_STATUS_MS,
  NOTIFY_WATCHDOG_PARTS,
} from '../config/limits.ts';
import type { StatusSource } from '../status/status.ts';
import { printable } from './plain-text.ts';
import { statusLine } from './status-line.ts';

/** What it works with. */
export interface ServiceManagerParts {
  readonly notify: Notify;
  /** Without a sign of life for so long walcast is taken for hung; null: nobody looks. */
  readonly watchdogMs: number | null;
  readonly clock: Clock;
  /** CLOCK_MONOTONIC in microseconds: by it systemd tells a reload from the one before. */
  readonly monotonicUsec: () => bigint;
  readonly log: Log;
}

/** The parts of a message that say how far walcast is. At most two wait: a reload that begins, and its end. */
type Step = 'READY' | 'RELOADING' | 'STOPPING';

/** How a start, a run and an end are told. One message at a time; of what waits only the newest is said. */
export class ServiceManager {
  readonly #parts: ServiceManagerParts;
  #steps: Step[] = [];
  /** By name; what a message says besides its step. */
  readonly #facts = new Map<string, string>();
  #isSending = false;
  #isTroubleTold = false;
  #isStopping = false;
  #reloads = 0;
  #lastStatus = '';
  #source: StatusSource | null = null;
  #timers = new Map<string, Timer>();

  /** The start is under way from here on. */
  constructor(parts: ServiceManagerParts) {
    this.#parts = parts;
    this.#every('extend', NOTIFY_EXTEND_EVERY_MS, () => this.#extend());
    const { watchdogMs } = parts;
    if (watchdogMs === null) return;
    this.#every('watchdog', watchdogMs / NOTIFY_WATCHDOG_PARTS, () => this.#say('WATCHDOG', '1'));
  }

  /** It has started: every port is open. */
  ready(source: StatusSource): void {
    this.#source = source;
    this.#cancel('extend');
    this.#every('status', NOTIFY_STATUS_MS, () => this.#tellStatus());
    this.#tellStatus(false);
    this.#step('READY');
  }

  /** The configuration is read again until the promise is settled. */
  async reloading(reload: Promise<unknown>): Promise<void> {
    this.#reloads += 1;
    if (!this.#isStopping) this.#step('RELOADING');
    try {
      await reload;
    } finally {
      this.#reloads -= 1;
      if (this.#reloads === 0 && !this.#isStopping) this.#step('READY');
    }
  }

  /** It ends from here on, and may take its time. */
  stopping(): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#facts.set('EXTEND_TIMEOUT_USEC', String(NOTIFY_EXTEND_MS * 1000));
    this.#tellStatus(false);
    this.#step('STOPPING');
    this.#every('extend', NOTIFY_EXTEND_EVERY_MS, () => this.#extend());
  }

  /** Nothing is said any more. */
  close(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#steps = [];
    this.#facts.clear();
  }

  #extend(): void {
    this.#say('EXTEND_TIMEOUT_USEC', String(NOTIFY_EXTEND_MS * 1000));
  }

  #tellStatus(isAlone = true): void {
    if (this.#source === null) return;
    const line = printable(statusLine(this.#source.status())).slice(0, NOTIFY_STATUS_LENGTH_MAX);
    if (line === this.#lastStatus) return;
    this.#lastStatus = line;
    this.#facts.set('STATUS', line);
    if (isAlone) this.#pump();
  }

  #say(name: string, value: string): void {
    this.#facts.set(name, value);
    this.#pump();
  }

  #step(step: Step): void {
    if (step !== 'READY') this.#steps = [step];
    else if (this.#steps.at(-1) !== 'READY') this.#steps.push(step);
    this.#pump();
  }

  #pump(): void {
    if (this.#isSending) return;
    const message = this.#nextMessage();
    if (message.length === 0) return;
    this.#isSending = true;
    void this.#parts.notify(message).then((problem) => {
      this.#isSending = false;
      this.#tellTrouble(problem);
      this.#pump();
    });
  }

  #nextMessage(): string[] {
    const step = this.#steps.shift();
    const words = step === undefined ? [] : [`${step}=1`];
    if (step === 'RELOADING') words.push(`MONOTONIC_USEC=${this.#parts.monotonicUsec()}`);
    for (const [name, value] of this.#facts) words.push(`${name}=${value}`);
    this.#facts.clear();
    return words;
  }

  /** Once, until a message gets through again: walcast runs all the same. */
  #tellTrouble(problem: string | null): void {
    if (problem === null) {
      this.#isTroubleTold = false;
      return;
    }
    if (this.#isTroubleTold) return;
    this.#isTroubleTold = true;
    this.#parts.log.warn(
      'the service manager could not be told how walcast is; walcast runs all the same, but a unit with Type=notify ends it: ' +
        'install systemd-notify, or use Type=exec',
      { reason: problem },
    );
  }

  #every(name: string, intervalMs: number, work: () => void): void {
    this.#cancel(name);
    const arm = (): void => {
      this.#timers.set(
        name,
        this.#parts.clock.setTimer(intervalMs, () => {
          arm();
          work();
        }),
      );
    };
    arm();
  }

  #cancel(name: string): void {
    this.#timers.get(name)?.cancel();
    this.#timers.delete(name);
  }
}
