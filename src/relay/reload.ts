// What happens when the configuration is read again: what differs, what can be followed in a running process, what waits
// for a restart. Nothing changes unless all of it can.
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { RELOAD_READINGS_MAX, RELOAD_SETTLE_MS } from '../config/limits.ts';
import { loadSecretsAgain } from '../config/load.ts';
import type { LoadedConfig } from '../config/load.ts';
import { formatConfigError } from '../config/problem.ts';
import type { ConfigEntry, ReloadReport } from '../status/actions.ts';
import { planReload, planSecrets } from './reload-plan.ts';
import { configEntries, logReload } from './reload-words.ts';

/** Puts what was prepared in effect. Must not fail. */
export type ApplyConfig = () => void;

/** Said of files that were written, or swapped, all the time while they were read. */
const UNSETTLED = `the files of the configuration were read ${RELOAD_READINGS_MAX} times and were never the same twice in a row. Ask again when nobody writes them any more`;

/** Who is told of a reload. */
export interface ReloadBoard {
  reloaded(nowMs: number, pendingRestart: readonly string[]): void;
  /** `problems`: the mistakes, one at least. */
  reloadRefused(nowMs: number, problems: readonly string[]): void;
  /** Files with secrets have changed and cannot be taken for these reasons; empty: they are in effect. */
  secretsRead(problems: readonly string[]): void;
}

/** Somebody asked for a reload, or a file with a secret has changed and nothing else counts. */
export type ConfigCause = 'reload' | 'secrets';

/** What a reload works with. */
export interface LiveConfigurationParts {
  /** Reads the configuration from where it came from at the start. */
  readonly read: () => LoadedConfig;
  /**
   * Gets ready what `next` needs and changes nothing yet. Rejects with {@link OperationalError} when it cannot be had;
   * the configuration is refused then.
   */
  readonly prepare: (next: Config, cause: ConfigCause) => Promise<ApplyConfig>;
  readonly board: ReloadBoard;
  /** Why nothing may change any more (`walcast is draining`); null while it may. */
  readonly refusal: () => string | null;
  readonly clock: Clock;
  readonly log: Log;
}

/** The configuration in effect. */
export class LiveConfiguration {
  readonly #parts: LiveConfigurationParts;
  #current: Config;
  /** As it was read: {@link #current} keeps what only a restart can change. */
  #lastRead: Config;
  #pendingRestart: readonly string[] = [];
  #running: Promise<ReloadReport> | null = null;
  #queued: Promise<ReloadReport> | null = null;
  /** What was said last of a configuration that was refused; null once one was taken. */
  #refused: string | null = null;
  /** What was said last of files with secrets that cannot be used. */
  #secretProblem: string | null = null;

  constructor(first: Config, parts: LiveConfigurationParts) {
    this.#current = first;
    this.#lastRead = first;
    this.#parts = parts;
  }

  /** What is in effect now. */
  get current(): Config {
    return this.#current;
  }

  /** What was read last, secrets aside, was refused. */
  get isRefused(): boolean {
    return this.#refused !== null;
  }

  /**
   * Reads the configuration again and applies what can be applied. One at a time; however many calls come while one runs,
   * one more run serves them all, because it reads what was written before any of them.
   */
  reload(): Promise<ReloadReport> {
    const running = this.#running;
    if (running === null) return this.#begin();
    const begin = (): Promise<ReloadReport> => {
      this.#queued = null;
      return this.#begin();
    };
    this.#queued ??= running.then(begin, begin);
    return this.#queued;
  }

  /**
   * The same for files that were swapped; nobody has asked. False when the configuration was refused: then it is to be tried
   * again, and the same mistakes are not told again. Null when it was not read, because others are at it or walcast ends.
   */
  async followFiles(): Promise<boolean | null> {
    await this.#running?.catch(() => {});
    if (this.#running !== null || this.#parts.refusal() !== null) return null;
    const { problems, isNotNow = false } = await this.#begin({ isUnasked: true });
    return isNotNow ? null : problems.length === 0;
  }

  /**
   * Takes what files with secrets hold now, and nothing else of the configuration. False when that cannot be taken: the old
   * stays in effect, which is said once. A reload that is under way reads them, too, and comes first.
   */
  async refreshSecrets(): Promise<boolean> {
    await this.#running?.catch(() => {});
    if (this.#running !== null || this.#parts.refusal() !== null) return false;
    const run = this.#refreshSecrets();
    this.#running = run.finally(() => {
      this.#running = null;
    });
    const { problems } = await this.#running;
    return problems.length === 0;
  }

  /** Every key, in the order of the documentation. */
  entries(): readonly ConfigEntry[] {
    return configEntries(this.#current, this.#pendingRestart);
  }

  #begin(options = { isUnasked: false }): Promise<ReloadReport> {
    const run = this.#run(options).finally(() => {
      this.#running = null;
    });
    this.#running = run;
    return run;
  }

  /** By the keys that are in effect: what stands in the configuration file by now is another question. */
  async #refreshSecrets(): Promise<ReloadReport> {
    const { read } = this.#parts;
    const loaded = await this.#readSettled(() => loadSecretsAgain(this.#lastRead) ?? read());
    if (loaded === null) return this.#secretsRefused([UNSETTLED]);
    if ('errors' in loaded) return this.#secretsRefused(loaded.errors.map(formatConfigError));
    const plan = planSecrets(this.#current, loaded.config);
    const report = { problems: [], changed: plan.changed, pendingRestart: this.#pendingRestart };
    if (plan.changed.length === 0) this.#current = plan.next;
    else {
      let apply: ApplyConfig;
      try {
        apply = await this.#parts.prepare(plan.next, 'secrets');
      } catch (error) {
        if (!(error instanceof OperationalError)) throw error;
        return this.#secretsRefused([problemLine(error)]);
      }
      if (this.#parts.refusal() !== null) return report;
      this.#current = plan.next;
      apply();
      for (const key of plan.changed) {
        this.#parts.log.info(`the file of \`${key}\` has changed and is in effect`);
      }
    }
    this.#secretsTaken();
    return report;
  }

  #secretsRefused(problems: readonly string[]): ReloadReport {
    const { board, log } = this.#parts;
    board.secretsRead(problems);
    const said = problems.join('\n');
    if (said !== this.#secretProblem) {
      for (const problem of problems) log.error(`configuration: ${problem}`);
      log.error(
        'a file with a secret has changed and cannot be used; what it held before stays in effect',
      );
    }
    this.#secretProblem = said;
    return { problems, changed: [], pendingRestart: this.#pendingRestart };
  }

  #secretsTaken(): void {
    this.#parts.board.secretsRead([]);
    if (this.#secretProblem !== null) this.#parts.log.info('files with secrets are in order again');
    this.#secretProblem = null;
  }

  async #run({ isUnasked }: { isUnasked: boolean }): Promise<ReloadReport> {
    const { board, clock, log } = this.#parts;
    const loaded = await this.#readSettled(this.#parts.read);
    const refusal = this.#parts.refusal();
    if (refusal !== null) return this.#notNow(refusal);
    if (loaded === null) return this.#refuse([UNSETTLED], isUnasked);
    if ('errors' in loaded) return this.#refuse(loaded.errors.map(formatConfigError), isUnasked);
    const plan = planReload(this.#current, loaded.config);
    let apply: ApplyConfig;
    try {
      apply = await this.#parts.prepare(plan.next, 'reload');
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      return this.#refuse([problemLine(error)], isUnasked);
    }
    // Ports may have taken long to open. What was opened is closed with the others.
    const lateRefusal = this.#parts.refusal();
    if (lateRefusal !== null) return this.#notNow(lateRefusal);
    const before = this.#current;
    this.#current = plan.next;
    this.#lastRead = loaded.config;
    this.#pendingRestart = plan.pendingRestart;
    this.#refused = null;
    apply();
    board.reloaded(clock.wallMs(), plan.pendingRestart);
    this.#secretsTaken();
    logReload(log, { before, loaded: loaded.config, plan });
    return { problems: [], changed: plan.changed, pendingRestart: plan.pendingRestart };
  }

  /**
   * An editor may be writing the file at this moment, and half a file can be a valid configuration: two readings a little
   * apart have to say the same. Null when none did.
   */
  async #readSettled(read: () => LoadedConfig): Promise<LoadedConfig | null> {
    const { clock } = this.#parts;
    let loaded = read();
    for (let readings = 1; readings < RELOAD_READINGS_MAX; readings += 1) {
      await new Promise<void>((resolve) => clock.setTimer(RELOAD_SETTLE_MS, resolve));
      const again = read();
      if (fingerprint(loaded) === fingerprint(again)) return again;
      loaded = again;
    }
    return null;
  }

  #refuse(problems: readonly string[], isUnasked: boolean): ReloadReport {
    const { board, clock, log } = this.#parts;
    const report = { problems, changed: [], pendingRestart: this.#pendingRestart };
    const said = problems.join('\n');
    if (isUnasked && said === this.#refused) return report;
    this.#refused = said;
    for (const problem of problems) log.error(`configuration: ${problem}`);
    log.error('the new configuration was refused; nothing was changed', {
      problems: problems.length,
    });
    board.reloadRefused(clock.wallMs(), problems);
    return report;
  }

  /** Says nothing against the configuration. */
  #notNow(reason: string): ReloadReport {
    this.#parts.log.warn(`the configuration is not read again: ${reason}`);
    const pendingRestart = this.#pendingRestart;
    return { problems: [reason], changed: [], pendingRestart, isNotNow: true };
  }
}

function fingerprint(loaded: LoadedConfig): string {
  if ('errors' in loaded) return loaded.errors.map(formatConfigError).join('\n');
  return JSON.stringify([...loaded.config.values.values()]);
}

function problemLine({ message, hint }: OperationalError): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}
