// What happens when the configuration is read again: what differs, what can be followed in a running process, what waits
// for a restart. Nothing changes unless all of it can.
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { EffectiveValue } from '../config/effective.ts';
import { RELOAD_READINGS_MAX, RELOAD_SETTLE_MS } from '../config/limits.ts';
import type { LoadedConfig } from '../config/load.ts';
import { formatConfigError } from '../config/problem.ts';
import { isListKind, SETTINGS, settingOf } from '../config/settings.ts';
import type { SettingKind } from '../config/settings.ts';
import type { ConfigEntry, ReloadReport } from '../status/actions.ts';
import { SECRET_FILE_KEYS } from './secret-files.ts';
import type { SecretFileKey } from './secret-files.ts';

/** Puts what was prepared in effect. Must not fail. */
export type ApplyConfig = () => void;

/** Who is told of a reload. */
export interface ReloadBoard {
  reloaded(nowMs: number, pendingRestart: readonly string[]): void;
  reloadRefused(): void;
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
  #pendingRestart: readonly string[] = [];
  #running: Promise<ReloadReport> | null = null;
  #queued: Promise<ReloadReport> | null = null;
  /** What was said last of files with secrets that cannot be used. */
  #secretProblem: string | null = null;

  constructor(first: Config, parts: LiveConfigurationParts) {
    this.#current = first;
    this.#parts = parts;
  }

  /** What is in effect now. */
  get current(): Config {
    return this.#current;
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

  #begin(): Promise<ReloadReport> {
    const run = this.#run().finally(() => {
      this.#running = null;
    });
    this.#running = run;
    return run;
  }

  async #refreshSecrets(): Promise<ReloadReport> {
    const loaded = await this.#readSettled();
    if ('errors' in loaded) return this.#secretsRefused(loaded.errors.map(formatConfigError));
    const plan = planSecrets(this.#current, loaded.config);
    const report = { problems: [], changed: plan.changed, pendingRestart: this.#pendingRestart };
    if (plan.changed.length > 0) {
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

  async #run(): Promise<ReloadReport> {
    const { board, clock, log } = this.#parts;
    const loaded = await this.#readSettled();
    if ('errors' in loaded) return this.#refuse(loaded.errors.map(formatConfigError));
    const refusal = this.#parts.refusal();
    if (refusal !== null) return this.#refuse([refusal]);
    const plan = planReload(this.#current, loaded.config);
    let apply: ApplyConfig;
    try {
      apply = await this.#parts.prepare(plan.next, 'reload');
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      return this.#refuse([problemLine(error)]);
    }
    // Ports may have taken long to open. What was opened is closed with the others.
    const lateRefusal = this.#parts.refusal();
    if (lateRefusal !== null) return this.#refuse([lateRefusal]);
    const before = this.#current;
    this.#current = plan.next;
    this.#pendingRestart = plan.pendingRestart;
    apply();
    board.reloaded(clock.wallMs(), plan.pendingRestart);
    this.#secretsTaken();
    logReload(log, { before, loaded: loaded.config, plan });
    return { problems: [], changed: plan.changed, pendingRestart: plan.pendingRestart };
  }

  /**
   * An editor may be writing the file at this moment, and half a file can be a valid configuration: two readings a little
   * apart have to say the same.
   */
  async #readSettled(): Promise<LoadedConfig> {
    const { read, clock } = this.#parts;
    let loaded = read();
    for (let readings = 1; readings < RELOAD_READINGS_MAX; readings += 1) {
      await new Promise<void>((resolve) => clock.setTimer(RELOAD_SETTLE_MS, resolve));
      const again = read();
      if (fingerprint(loaded) === fingerprint(again)) return again;
      loaded = again;
    }
    return loaded;
  }

  #refuse(problems: readonly string[]): ReloadReport {
    const { board, log } = this.#parts;
    for (const problem of problems) log.error(`configuration: ${problem}`);
    log.error('the new configuration was refused; nothing was changed', {
      problems: problems.length,
    });
    board.reloadRefused();
    return { problems, changed: [], pendingRestart: this.#pendingRestart };
  }
}

/** What a reload would do. */
export interface ReloadPlan {
  /** What would be in effect: the new configuration, but for keys that only a restart can change. */
  readonly next: Config;
  readonly changed: readonly string[];
  readonly pendingRestart: readonly string[];
}

/** Compares by meaning: `60s` is `1min`, and a named file is what it contains. Pure. */
export function planReload(running: Config, loaded: Config): ReloadPlan {
  const differing = SETTINGS.filter(({ path }) => meaning(running, path) !== meaning(loaded, path));
  const pending = differing.filter(({ isReloadable }) => !isReloadable).map(({ path }) => path);
  const values = new Map(loaded.values);
  for (const path of pending) {
    const kept = running.values.get(path);
    if (kept !== undefined) values.set(path, kept);
  }
  const { directory, verify, forward } = running.storage;
  return {
    next: {
      ...loaded,
      listen: running.listen,
      http: { ...loaded.http, listen: running.http.listen, tls: running.http.tls },
      storage: { ...loaded.storage, directory, verify, forward },
      values,
    },
    changed: differing.filter(({ isReloadable }) => isReloadable).map(({ path }) => path),
    pendingRestart: pending,
  };
}

/** Only what files with secrets hold, and only where the same file is named as before; everything else waits for a reload. Pure. */
export function planSecrets(running: Config, loaded: Config): Omit<ReloadPlan, 'pendingRestart'> {
  const changed = SECRET_FILE_KEYS.filter(
    (key) =>
      isDeepStrictEqual(running.namedFiles.get(key), loaded.namedFiles.get(key)) &&
      meaning(running, key) !== meaning(loaded, key),
  );
  const values = new Map(running.values);
  let next: Config = { ...running, values };
  for (const key of changed) {
    const value = loaded.values.get(key);
    if (value !== undefined) values.set(key, value);
    next = { ...next, ...secretOf(key, next, loaded) };
  }
  return { next, changed };
}

function secretOf(key: SecretFileKey, running: Config, loaded: Config): Partial<Config> {
  switch (key) {
    case 'auth.users_file': {
      const { users, usersWithoutSecret } = loaded.auth;
      return { auth: { ...running.auth, users, usersWithoutSecret } };
    }
    case 'http.token_file':
      return { http: { ...running.http, token: loaded.http.token } };
    case 'http.wal_token_file':
      return { http: { ...running.http, walToken: loaded.http.walToken } };
    case 'upstream.conninfo_file': {
      const { conninfo, server } = loaded.upstream;
      return { upstream: { ...running.upstream, conninfo, server } };
    }
  }
}

/** A configuration as its entries are shown. */
export function configEntries(
  { values }: Config,
  pendingRestart: readonly string[],
): readonly ConfigEntry[] {
  return SETTINGS.map(({ path, kind, defaultText, isReloadable }) => {
    const value = values.get(path);
    return {
      key: path,
      value: value === undefined ? null : shownText(value),
      defaultValue:
        defaultText !== null && isListKind(kind)
          ? listText(kind, defaultText === '' ? [] : [defaultText])
          : defaultText,
      origin: value?.origin ?? 'default',
      place: value?.place ?? null,
      isReloadable,
      isPendingRestart: pendingRestart.includes(path),
    };
  });
}

function meaning({ values }: Config, path: string): string {
  return values.get(path)?.meaning ?? '';
}

function fingerprint(loaded: LoadedConfig): string {
  if ('errors' in loaded) return loaded.errors.map(formatConfigError).join('\n');
  return JSON.stringify([...loaded.config.values.values()]);
}

function problemLine({ message, hint }: OperationalError): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}

function shownText({ key, shown, tls }: EffectiveValue): string | null {
  if (typeof shown === 'string' || shown === null) return shown;
  return listText(settingOf(key)?.kind ?? 'names', shown, tls);
}

function listText(
  kind: SettingKind,
  items: readonly string[],
  tls: EffectiveValue['tls'] = [],
): string {
  const texts = items.map((item) => JSON.stringify(item));
  if (kind === 'users') return `{ ${texts.map((text) => `${text}: "***"`).join(', ')} }`;
  if (items.length === 0) return '[]';
  const shown =
    kind === 'addresses'
      ? texts.map((text, index) => `{ address: ${text}${tlsText(tls[index] ?? null)} }`)
      : texts;
  return `[ ${shown.join(', ')} ]`;
}

function tlsText(tls: ReadonlyMap<string, string> | null): string {
  if (tls === null) return '';
  const words = [...tls].map(([name, text]) => `${name}: ${JSON.stringify(text)}`);
  return `, tls: { ${words.join(', ')} }`;
}

/** PostgreSQL's words for the same. (guc.c:set_config_option, guc-file.l:ProcessConfigFileInternal) */
function logReload(
  log: Log,
  { before, loaded, plan }: { before: Config; loaded: Config; plan: ReloadPlan },
): void {
  for (const key of plan.changed) log.info(`\`${key}\` changed`, difference(key, before, loaded));
  for (const key of plan.pendingRestart) {
    log.warn(`\`${key}\` cannot be changed without a restart`, difference(key, before, loaded));
  }
  if (before.hba !== null && loaded.hba === null) {
    log.warn('there are no access rules any more: every connection over TCP is refused');
  }
  for (const warning of loaded.warnings) {
    if (!before.warnings.includes(warning)) log.warn(warning);
  }
  log.info('the configuration was read again', {
    changed: plan.changed.length,
    pending_restart: plan.pendingRestart.length,
  });
}

/** Of a block of rules or a file only that it changed is said: rules can be many lines. */
function difference(
  key: string,
  before: Config,
  after: Config,
): { from?: string | null; to?: string | null; place: string | null } {
  const [a, b] = [before.values.get(key), after.values.get(key)];
  const place = b?.place ?? null;
  if (a === undefined || b === undefined || settingOf(key)?.kind === 'rules') return { place };
  return { from: shownText(a), to: shownText(b), place };
}
