// What does a signal, or somebody else, ask of the relay that runs?
import type { Log } from '../base/log.ts';
import type { HandledSignal } from './command.ts';

/** What can be asked of a relay besides its end. */
export interface RelayErrands {
  /** Reads the configuration again. */
  readonly reload: () => void;
  /** Writes the state into the log. */
  readonly dump: () => void;
}

/**
 * Who asked for the end, and how urgently: SIGTERM, the HTTP port and the console ask for a drain, a second SIGTERM, a SIGINT
 * or the console for the end at once. A drain that was asked for otherwise is not hurried by the first SIGTERM. SIGHUP
 * reloads, SIGUSR2 writes down the state.
 */
export class RunRequests {
  /** The first request of either kind. */
  readonly any: Promise<'drain' | 'immediate'>;
  readonly immediate: Promise<'immediate'>;
  readonly #log: Log;
  #errands: RelayErrands | null = null;
  #isReloadWanted = false;
  #resolveDrain: () => void = () => {};
  #resolveImmediate: () => void = () => {};
  #isTermSeen = false;

  constructor(log: Log) {
    this.#log = log;
    const drain = new Promise<'drain'>((resolve) => {
      this.#resolveDrain = () => resolve('drain');
    });
    this.immediate = new Promise((resolve) => {
      this.#resolveImmediate = () => resolve('immediate');
    });
    this.any = Promise.race([this.immediate, drain]);
  }

  /** There is a relay from now on; a SIGHUP that came before counts. */
  serveWith(errands: RelayErrands): void {
    this.#errands = errands;
    if (this.#isReloadWanted) errands.reload();
  }

  drainAsked(): void {
    this.#resolveDrain();
  }

  shutdownAsked(): void {
    this.#resolveImmediate();
  }

  take(signal: HandledSignal): void {
    switch (signal) {
      case 'SIGHUP':
        this.#log.info('received SIGHUP, reading the configuration again');
        this.#isReloadWanted = true;
        this.#errands?.reload();
        break;
      case 'SIGUSR1':
        this.#log.info('received SIGUSR1; the log goes to standard error, no file is opened anew');
        break;
      case 'SIGUSR2':
        this.#dump();
        break;
      case 'SIGTERM':
        this.#log.info('received SIGTERM');
        if (this.#isTermSeen) this.#resolveImmediate();
        else this.#resolveDrain();
        this.#isTermSeen = true;
        break;
      case 'SIGINT':
      case 'SIGQUIT':
        this.#log.info(`received ${signal}`);
        this.#resolveImmediate();
        break;
      default:
        signal satisfies never;
    }
  }

  #dump(): void {
    if (this.#errands === null) {
      this.#log.info('received SIGUSR2; walcast is still starting and has no state to write down');
      return;
    }
    this.#errands.dump();
  }
}
