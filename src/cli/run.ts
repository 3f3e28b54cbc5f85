// walcast run: the relay itself, from its configuration to its exit code.
import type { Clock } from '../base/clock.ts';
import type { LogLevelControl } from '../base/log-levels.ts';
import { StallWatch } from '../base/stall-watch.ts';
import { within } from '../base/within.ts';
import { errorText, OperationalError, WalcastError } from '../base/errors.ts';
import type { Log, ProcessLog } from '../base/log.ts';
import { readBuildInfo } from '../config/build-info.ts';
import type { Config } from '../config/config.ts';
import { RELOAD_SETTLE_MS } from '../config/limits.ts';
import { loadConfig } from '../config/load.ts';
import type { ConfigSources, LoadedConfig } from '../config/load.ts';
import { rememberingYamlReader } from '../config/yaml-layer.ts';
import type { StatusSource } from '../status/status.ts';
import { CatchupProgress } from './catchup-progress.ts';
import { EXIT } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { configSources, configurationOptions, printConfigErrors } from './config-options.ts';
import { logSettings, openRunLog } from './run-log.ts';
import { openServiceManager } from './run-service.ts';
import { RunRequests } from './run-signals.ts';
import type { RelayErrands } from './run-signals.ts';
import type { ServiceManager } from './service-manager.ts';
import { StateDump } from './state-dump.ts';

/** A running relay, as far as this command knows it. */
export interface RunningRelay {
  readonly statusSource: StatusSource;
  /** Resolves when the relay can no longer keep a promise and must end. */
  readonly failed: Promise<Error>;
  /** Reads the configuration again and applies what can be applied; what came of it is logged. */
  reload(): Promise<unknown>;
  /** Serves everybody to the end, then closes in order. */
  drain(): Promise<void>;
  /** Closes at once. */
  stop(): Promise<void>;
  /** After a crash: nothing is reported upstream or sent to anybody from here on. Nothing is closed in order. */
  halt(): void;
}

/** Starts a relay; rejects with OperationalError when it cannot be started. */
export type StartRelay = (
  config: Config,
  parts: {
    readonly clock: Clock;
    readonly log: Log;
    readonly readConfig: () => LoadedConfig;
    readonly logLevels: LogLevelControl;
    readonly onLogSettings: (settings: Config['log']) => void;
    readonly onDrainRequested: () => void;
    readonly onShutdownRequested: () => void;
    readonly startSignal: AbortSignal;
  },
) => Promise<RunningRelay>;

/** A rule that lets in what runs on this machine and nobody else. */
const EXAMPLE_RULE = 'host replication all 127.0.0.1/32 trust';

/** The command, over the way to start a relay. */
export function runCommand(startRelay: StartRelay): Command {
  return {
    name: 'run',
    summary: 'Receive WAL from an upstream server, keep it, and serve it to standbys.',
    options: configurationOptions(),
    help: HELP,
    async run(context): Promise<number> {
      const sources = configSources(context);
      const loaded = await loadAtStart(context.clock, sources);
      if ('errors' in loaded) {
        printConfigErrors(context, loaded.errors);
        return EXIT.configuration;
      }
      const log = openRunLog(loaded.config.log, context);
      context.useLog(log);
      logConfiguration(log, loaded.config, sources.file);
      return serve(context, { config: loaded.config, log, sources, startRelay });
    },
  };
}

const HELP = `
Flags count before environment variables (WALCAST_UPSTREAM_CONNINFO …), these before the file, the file before the
defaults. docs/configuration.md lists every key.

SIGTERM sends standbys everything and waits for their confirmation, at most drain_timeout; a second SIGTERM, or SIGINT,
stops at once. While walcast starts, nobody is served, and either ends the start. SIGHUP reads the configuration again: what is reloadable is in effect at once, without disturbing standbys;
what is not waits for a restart; a configuration with a mistake changes nothing. SIGQUIT ends walcast as a crash would; SIGUSR2
writes its state into the log.

Exit codes: 0 ok, 1 failure, 2 usage, 78 bad configuration.

Examples:
  walcast run -c walcast.yaml
  walcast run --upstream 'host=pg-a port=5432 user=replicator' --data /var/lib/walcast \\
              --listen 0.0.0.0:5432 --hba-file pg_hba.conf
`;

/**
 * A link may be swapped between the reading of two files, and a service manager starts nothing again that ends with 78: what is
 * wrong is read once more, a little later. A pipe can be read only once.
 */
async function loadAtStart(clock: Clock, sources: ConfigSources): Promise<LoadedConfig> {
  const loaded = loadConfig(sources);
  if (!('errors' in loaded)) return loaded;
  await new Promise<void>((resolve) => clock.setTimer(RELOAD_SETTLE_MS, resolve));
  const again = loadConfig({ ...sources, isPlainOnly: true });
  return 'errors' in again ? loaded : again;
}

function logConfiguration(log: Log, config: Config, file: string | null): void {
  const { version, revision } = readBuildInfo();
  log.info('walcast starts', {
    version,
    revision,
    node: process.versions.node,
    pid: process.pid,
    config_file: file,
    data: config.storage.directory,
  });
  for (const warning of config.warnings) log.warn(warning);
  if (config.hba !== null) return;
  log.warn(
    'there are no access rules, so no TCP port is opened for standbys; ' +
      `give auth.hba or auth.hba_file, starting from a line such as: ${EXAMPLE_RULE}`,
  );
}

/** How long a start that was told to end at once may take to undo what it did. */
const START_END_MS_MAX = 2_000;

/** What serving needs besides the context. */
interface Service {
  readonly config: Config;
  readonly log: ProcessLog;
  readonly sources: ConfigSources;
  readonly startRelay: StartRelay;
}

/** Runs until a signal or a failure ends it. */
async function serve(context: CommandContext, service: Service): Promise<number> {
  const { config, log, sources, startRelay } = service;
  const { clock } = context;
  const requests = new RunRequests(log);
  const manager = openServiceManager(context, log);
  const release = context.onSignal((signal) => requests.take(signal));
  const readYaml = rememberingYamlReader();
  const startEnd = new AbortController();
  const stalls = new StallWatch({ clock, log });
  let unwatch: () => void = () => {};
  let uncrash: () => void = () => {};
  try {
    const starting = startRelay(config, {
      clock,
      log,
      readConfig: () => loadConfig({ ...sources, isPlainOnly: true, readYaml }),
      logLevels: log.levels,
      onLogSettings: (settings) => log.adjust(logSettings(settings, context)),
      onDrainRequested: () => requests.drainAsked(),
      onShutdownRequested: () => requests.shutdownAsked(),
      startSignal: startEnd.signal,
    });
    const relay = await Promise.race([starting, requests.any]);
    if (typeof relay === 'string') {
      log.info('walcast ends before it has started');
      manager?.stopping();
      startEnd.abort();
      await endOfStart(starting, clock);
      return EXIT.ok;
    }
    uncrash = context.onCrash?.(() => relay.halt()) ?? uncrash;
    manager?.ready(relay.statusSource);
    requests.serveWith(errandsOf(relay, { log, clock, manager }));
    unwatch = watchCatchup(context, relay, log);
    return await endOf(relay, { requests, log, manager });
  } catch (error) {
    if (!(error instanceof WalcastError)) throw error;
    logFailure(log, error);
    return EXIT.failure;
  } finally {
    stalls.stop();
    unwatch();
    uncrash();
    release();
    manager?.close();
  }
}

/**
 * A start that was told to end gives back what it took, the lock above all. It is not waited for for long: nobody was
 * served yet, and whatever it is doing to the store is safe to be broken off.
 */
async function endOfStart(starting: Promise<RunningRelay>, clock: Clock): Promise<void> {
  // A start that fails has undone what it did.
  const ended = starting.then((relay) => relay.stop()).catch(() => {});
  await within(clock, START_END_MS_MAX, ended);
}

function errandsOf(
  relay: RunningRelay,
  parts: {
    readonly log: ProcessLog;
    readonly clock: Clock;
    readonly manager: ServiceManager | null;
  },
): RelayErrands {
  const { log, clock, manager } = parts;
  const { levels } = log;
  const dump = new StateDump({ source: relay.statusSource, log: log.unfiltered(), levels, clock });
  return {
    reload: () => {
      const reload = relay.reload();
      void (manager?.reloading(reload) ?? reload);
    },
    dump: () => dump.write('received SIGUSR2'),
  };
}

/** Shows how far a catch-up is until the returned function is called. */
function watchCatchup(
  context: CommandContext,
  { statusSource }: RunningRelay,
  log: Log,
): () => void {
  const isTerminal = context.isErrorTerminal === true;
  const progress = new CatchupProgress({
    source: statusSource,
    clock: context.clock,
    log,
    terminal: isTerminal ? (text) => context.printError(text) : null,
  });
  return () => progress.stop();
}

/** What ends the process, and who hears of it. */
interface Ending {
  readonly requests: RunRequests;
  readonly log: Log;
  readonly manager: ServiceManager | null;
}

async function endOf(relay: RunningRelay, { requests, log, manager }: Ending): Promise<number> {
  const failed = relay.failed.then((error) => ({ error }));
  const first = await Promise.race([failed, requests.any]);
  manager?.stopping();
  if (first === 'drain') {
    const drained = relay.drain().then(() => 'drained' as const);
    const next = await Promise.race([drained, failed, requests.immediate]);
    if (next === 'drained') {
      log.info('walcast stops after draining');
      return EXIT.ok;
    }
    if (next !== 'immediate') return fail(log, next.error);
  } else if (first !== 'immediate') {
    return fail(log, first.error);
  }
  log.info('walcast stops at once');
  const stopped = relay.stop().then(() => null);
  const failure = await Promise.race([stopped, failed]);
  return failure === null ? EXIT.ok : fail(log, failure.error);
}

function fail(log: Log, error: Error): number {
  logFailure(log, error);
  return EXIT.failure;
}

function logFailure(log: Log, error: Error): void {
  const hint = error instanceof OperationalError ? error.hint : undefined;
  const code = error instanceof WalcastError ? error.code : undefined;
  log.error(`walcast ends: ${errorText(error)}`, { code, hint });
}
