// A host with a relay on it: the real one, started, stopped, killed and started again, over its disk.
import { LogLevels } from '../../src/base/log-levels.ts';
import { OperationalError } from '../../src/base/errors.ts';
import type { Log, LogFields } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { startRelay } from '../../src/relay/relay.ts';
import type { Relay } from '../../src/relay/relay.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { mountDisk } from './machine/disk-calls.ts';
import type { MountedDisk } from './machine/disk-calls.ts';
import { policyText } from './sync-policy.ts';
import type { SyncPolicy } from './sync-policy.ts';
import type { Network } from './machine/network.ts';
import type { Random } from './machine/random.ts';
import { SimProcess } from './machine/sim-process.ts';
import type { ProcessEnd } from './machine/sim-process.ts';
import { clockOf } from './machine/world.ts';
import type { World } from './machine/world.ts';

/** How a relay is set up. */
export interface RelaySetup {
  /** Hosts of its upstream, in the order to try. */
  readonly upstreams: readonly string[];
  readonly targetSessionAttrs: string;
  readonly verify: 'record' | 'page';
  readonly forward: 'received' | 'flushed';
  readonly keepMb: number;
  readonly slots: readonly string[];
  /** Which standbys have to confirm, at first; null: none. */
  readonly policy: SyncPolicy | null;
}

/** A policy, and from when to when the program may have gone by it. */
export interface PolicyInForce {
  readonly policy: SyncPolicy | null;
  readonly fromMs: number;
  untilMs: number;
}

const RESTART_MS_MIN = 300;
const RESTART_MS_MAX = 2_000;

/** Programs started so far, over all simulations of this process. */
let runs = 0;

/** One host. */
export class RelayHost {
  readonly name: string;
  readonly setup: RelaySetup;
  readonly mounted: MountedDisk;
  readonly #world: World;
  readonly #network: Network;
  readonly #random: Random;
  process: SimProcess | null = null;
  relay: Relay | null = null;
  /** Starts so far. */
  starts = 0;
  /** When the process said that it cannot go on; null while it can. */
  failedAtMs: number | null = null;
  isDraining = false;
  readonly #stops: { readonly fromMs: number; readonly toMs: number }[] = [];
  #stoppedAtMs = 0;
  #starting: AbortController | null = null;
  /** The policy in the configuration, and those that were in force. */
  #policy: SyncPolicy | null;
  readonly policies: PolicyInForce[] = [];
  /** It is not to be started again for now. */
  isHeldDown = false;

  constructor(
    name: string,
    setup: RelaySetup,
    parts: { world: World; network: Network; random: Random },
  ) {
    this.name = name;
    this.setup = setup;
    this.#policy = setup.policy;
    this.mounted = mountDisk(name);
    this.mounted.disk.onMet = (what, count) => parts.world.count(what, count);
    this.#world = parts.world;
    this.#network = parts.network;
    this.#random = parts.random;
  }

  get directory(): string {
    return `/sim/${this.name}/data`;
  }

  /** Keep window, in bytes. */
  get keepBytes(): number {
    return this.setup.keepMb << 20;
  }

  status(): RelayStatus | null {
    const { process, relay } = this;
    if (process === null || relay === null) return null;
    return this.#world.within(process.context, () => relay.statusSource.status());
  }

  start(): void {
    if (this.process !== null || this.isHeldDown) return;
    const world = this.#world;
    const process = new SimProcess(this.name, {
      monotonicOriginMs: this.#random.real(1_000, 500_000),
      hasPromises: true,
    });
    this.process = process;
    this.relay = null;
    this.failedAtMs = null;
    this.isDraining = false;
    this.starts += 1;
    const fromMs = this.#world.nowMs;
    for (const each of this.policies) each.untilMs = Math.min(each.untilMs, fromMs);
    this.policies.push({ policy: this.#policy, fromMs, untilMs: Number.POSITIVE_INFINITY });
    runs += 1;
    this.#network.setDown(this.name, false);
    process.onEnd.push((end) => this.#ended(process, end));
    world.schedule(process.context, 0, `${this.name} starts`, () => void this.#run(process));
  }

  /** The power of its host is lost, disk included. */
  losePower(): void {
    this.process?.kill('power');
    this.#network.setDown(this.name, true);
    this.mounted.disk.losePower(this.#random);
  }

  kill(): void {
    this.process?.kill('kill');
  }

  /** Another policy in the configuration: the program is told to read it again. */
  changePolicy(policy: SyncPolicy | null): void {
    const { process, relay } = this;
    this.#policy = policy;
    if (process === null) return;
    const fromMs = this.#world.nowMs;
    const next: PolicyInForce = { policy, fromMs, untilMs: Number.POSITIVE_INFINITY };
    const before = this.policies.filter(({ untilMs }) => untilMs === Number.POSITIVE_INFINITY);
    this.policies.push(next);
    // It may have read its configuration already, and is told again once it has started.
    if (relay === null) return;
    this.#world.schedule(process.context, 0, `${this.name} SIGHUP`, () => {
      relay.reload().then(
        ({ problems }) => {
          if (this.process !== process) return;
          const nowMs = this.#world.nowMs;
          if (problems.length > 0) next.untilMs = nowMs;
          else for (const each of before) each.untilMs = Math.min(each.untilMs, nowMs);
        },
        (error: unknown) => this.#world.crashed(error),
      );
    });
  }

  /** RECONNECT on its console. */
  reconnect(): void {
    const { process, relay } = this;
    if (process === null || relay === null) return;
    this.#world.schedule(process.context, 0, `${this.name} RECONNECT`, () => {
      if (relay.actions.reconnect() === null) this.#world.count('told to connect anew');
    });
  }

  /** SIGTERM, also during the start. */
  drain(): void {
    const { process, relay } = this;
    if (process === null || this.isDraining) return;
    this.isDraining = true;
    if (relay === null) {
      this.#starting?.abort();
      return;
    }
    this.#world.schedule(process.context, 0, `${this.name} SIGTERM`, () => {
      relay.drain().then(
        () => {
          this.#world.count('drain completed');
          process.kill('exit');
        },
        (error: unknown) => {
          // The disk failed at the very end: main.ts says so, and ends.
          if (error instanceof OperationalError) this.#failed(process, error);
          else this.#world.crashed(error);
        },
      );
    });
  }

  /** SIGSTOP and SIGCONT. */
  setStopped(isStopped: boolean): void {
    const { process } = this;
    if (process === null || process.isStopped === isStopped) return;
    process.isStopped = isStopped;
    if (isStopped) this.#stoppedAtMs = this.#world.nowMs;
    else {
      this.#stops.push({ fromMs: this.#stoppedAtMs, toMs: this.#world.nowMs });
      this.#world.wake(process);
    }
  }

  /** For how long it did not run since then. */
  stoppedMs(sinceMs: number): number {
    return this.#stops.reduce((sum, { fromMs, toMs }) => {
      return sum + Math.max(0, toMs - Math.max(fromMs, sinceMs));
    }, 0);
  }

  async #run(process: SimProcess): Promise<void> {
    const policy = this.#policy;
    const loaded = this.#config();
    if (!('config' in loaded)) throw new Error(JSON.stringify(loaded.errors));
    const log = new TracedLog(this.#world, this.name);
    const starting = new AbortController();
    this.#starting = starting;
    try {
      const relay = await startRelay(loaded.config, {
        clock: clockOf(this.#world, process),
        log,
        readConfig: () => this.#config(),
        logLevels: new LogLevels({ level: 'info', levels: new Map() }, []),
        onLogSettings: () => {},
        onDrainRequested: () => this.drain(),
        onShutdownRequested: () => {},
        startSignal: starting.signal,
      });
      this.relay = relay;
      if (this.#policy !== policy) this.changePolicy(this.#policy);
      void relay.failed.then((error) => this.#failed(process, error));
    } catch (error) {
      if (error instanceof OperationalError) this.#failed(process, error);
      else this.#world.crashed(error);
    }
  }

  /** As main.ts does: it says why, and ends. */
  #failed(process: SimProcess, error: unknown): void {
    if (this.process !== process) return;
    this.failedAtMs = this.#world.nowMs;
    this.#world.trace.note(`${this.name} failed: ${plainText(String(error))}`);
    this.#world.schedule(process.context, 100, `${this.name} exits`, () => process.kill('exit'));
  }

  #ended(process: SimProcess, end: ProcessEnd): void {
    this.#world.trace.note(`${this.name} ended: ${end}`);
    this.process = null;
    this.relay = null;
    this.#network.processEnded(process, end === 'power');
    const delayMs = this.#random.real(RESTART_MS_MIN, RESTART_MS_MAX);
    this.#world.schedule({ process: null, thread: null }, delayMs, `${this.name} again`, () => {
      this.start();
    });
  }

  #config(): LoadedConfig {
    const { upstreams, targetSessionAttrs, verify, forward, keepMb, slots } = this.setup;
    const settings = {
      'upstream.conninfo': `host=${upstreams.join(',')} port=5432 user=replicator sslmode=disable target_session_attrs=${targetSessionAttrs}`,
      'upstream.application_name': this.name,
      'upstream.slot': this.name,
      listen: '0.0.0.0:5432',
      'auth.hba': 'host replication all all trust',
      // The program remembers, for all stores of its process, which paths it has open: each of its runs has paths of its own.
      'storage.directory': `/sim/${this.name}.${runs}/data`,
      'storage.verify': verify,
      'storage.forward': forward,
      'storage.wal_keep_size': `${keepMb}MB`,
      'http.listen': '',
      synchronous_standby_names: policyText(this.#policy),
      ...(slots.length === 0 ? {} : { slots: slots.join(',') }),
    };
    const flags = Object.entries(settings).map(([path, text]) => ({ path, text, flag: '--set' }));
    return loadConfig({ flags, env: {}, file: null, workingDirectory: '/sim' });
  }
}

/** Lines of the program that tell that something was exercised. */
const TELLING: ReadonlyMap<string, string> = new Map([
  ['standby claims WAL that was not sent to it; the claim is cut', 'claim cut'],
  ['a standby needs WAL from before the store: it is read from upstream', 'read-through'],
  ['a damaged WAL segment was replaced by what the upstream has', 'segment repaired'],
  ['there is space for WAL again', 'space is back'],
  ['WAL from the upstream fails its check: nothing of it is kept or sent', 'damaged WAL refused'],
  [
    'standby is back on a new connection: this one is silent and ends, its slot goes over',
    'slot taken over',
  ],
]);

function plainText(text: string): string {
  return text.replaceAll(/(\/sim\/\w+)\.\d+/g, '$1');
}

/** Lines of the program go into the trace, without fields that real time may get into. */
class TracedLog implements Log {
  readonly #world: World;
  readonly #name: string;
  #followed: unknown = null;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#name = name;
  }

  debug(): void {}

  info(message: string, fields?: LogFields): void {
    this.#note('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#note('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#note('error', message, fields);
  }

  child(): Log {
    return this;
  }

  #note(level: string, message: string, fields: LogFields = {}): void {
    this.#count(message, fields);
    const { seconds: _seconds, ...rest } = fields;
    const text = `${this.#name} ${level}: ${message} ${JSON.stringify(rest)}`;
    this.#world.trace.note(plainText(text));
  }
  #count(message: string, fields: LogFields): void {
    const telling = TELLING.get(message);
    if (telling !== undefined) this.#world.count(telling);
    if (message === 'the store goes on on the next timeline') {
      const hasDead = Number(fields['dead_bytes']) > 0;
      this.#world.count(
        hasDead ? 'timeline switch with dead WAL' : 'timeline switch without dead WAL',
      );
    }
    if (message !== 'upstream: streaming') return;
    const upstream = fields['upstream'];
    if (this.#followed !== null && this.#followed !== upstream) this.#world.count('change of host');
    this.#followed = upstream;
  }
}
