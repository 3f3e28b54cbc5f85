// The composition root: builds the parts, joins them, starts them in order and stops them in order.
import type { Clock } from '../base/clock.ts';
import { InvariantError, OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import { readBuildInfo } from '../config/build-info.ts';
import type { Config } from '../config/config.ts';
import {
  DRAIN_ANSWER_MS_MAX,
  DRAIN_CLOSE_MS_MAX,
  STOP_CLOSE_MS_MAX,
  STOP_FLUSH_MS_MAX,
} from '../config/limits.ts';
import { AdminDesk } from '../console/admin-desk.ts';
import { ConsoleOpener } from '../console/opener.ts';
import { DirectoryLock } from '../net/directory-lock.ts';
import { KnownHostNames } from '../net/host-names.ts';
import type { HbaRules } from '../pg/hba.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { SlotStore } from '../slot/slot-store.ts';
import type { RelayActions, ReloadReport } from '../status/actions.ts';
import { prepareDataDirectory } from '../wal/data-directory.ts';
import { WalStore } from '../wal/wal-store.ts';
import type { ServerIdentity } from '../walsender/ports.ts';
import { WalSenders } from '../walsender/wal-senders.ts';
import { RelayActionsOf } from './actions.ts';
import { ClientUsers } from './client-users.ts';
import { consoleSource } from './console-source.ts';
import { FeedbackNote } from './feedback-note.ts';
import { flushReceived } from './final-flush.ts';
import { FreeSpace } from './free-space.ts';
import { LateSlotRegistry, LateWalFeed } from './late-binding.ts';
import { RelayPorts } from './ports-opening.ts';
import { NOTHING_READ_THROUGH, StoreReadThrough } from './read-through.ts';
import { LiveConfiguration } from './reload.ts';
import type { ApplyConfig, ConfigCause } from './reload.ts';
import { effectiveKeepSize, NOTHING_RETAINED, Retention } from './retention.ts';
import { HOLD_AHEAD_DEFAULT_MS, senderSettings } from './sender-settings.ts';
import { openSlots } from './slots-opening.ts';
import { StandbyFeedbackBook } from './standby-feedback.ts';
import { StatusBoard } from './status-board.ts';
import type { Relay, RelaySurroundings } from './running-relay.ts';
import { serverIdentity, StoreFeed } from './store-adapters.ts';
import { UpstreamFollowing } from './upstream-following.ts';
import { WalFiles } from './wal-files.ts';
import { WatchedFiles } from './watched-files.ts';

export type { Relay, RelaySurroundings } from './running-relay.ts';

/** Lets nobody in. */
const NO_RULES: HbaRules = { rules: [] };

/**
 * Builds and starts a relay. Rejects with OperationalError when it cannot start, `START_ENDED` when it was told not to; what
 * was begun is undone.
 */
export async function startRelay(config: Config, surroundings: RelaySurroundings): Promise<Relay> {
  const relay = new RunningRelay(config, surroundings);
  try {
    await relay.start();
    return relay;
  } catch (error) {
    await relay.stop();
    throw error;
  }
}

class RunningRelay implements Relay {
  readonly statusSource: StatusBoard;
  readonly failed: Promise<Error>;
  readonly actions: RelayActions;
  readonly #live: LiveConfiguration;
  readonly #onLogSettings: RelaySurroundings['onLogSettings'];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #feed = new LateWalFeed();
  readonly #registry = new LateSlotRegistry();
  readonly #feedback: StandbyFeedbackBook;
  readonly #following: UpstreamFollowing;
  readonly #users: ClientUsers;
  readonly #files: WatchedFiles;
  readonly #desk: AdminDesk;
  readonly #senders: WalSenders;
  readonly #freeSpace: FreeSpace;
  readonly #ports: RelayPorts;
  readonly #startSignal: AbortSignal;
  #fail: (error: Error) => void = () => {};
  #lock: DirectoryLock | null = null;
  #store: WalStore | null = null;
  #isServing = false;
  #phase: 'starting' | 'started' | 'draining' | 'stopping' = 'starting';
  #closed: Promise<void> | null = null;
  #slots: SlotStore | null = null;
  #retention: Retention | null = null;
  #readThrough: StoreReadThrough | null = null;

  constructor(config: Config, surroundings: RelaySurroundings) {
    const { clock, log, readConfig } = surroundings;
    this.#live = new LiveConfiguration(config, {
      read: readConfig,
      prepare: (next, cause) => this.#prepareConfig(next, cause),
      board: {
        reloaded: (nowMs, pending) => this.statusSource.reloaded(nowMs, pending),
        reloadRefused: (nowMs, problems) => this.statusSource.reloadRefused(nowMs, problems),
        secretsRead: (problems) => this.statusSource.secretsRead(problems),
      },
      refusal: () => this.#reloadRefusal(),
      clock,
      log: log.child({ component: 'config' }),
    });
    this.#onLogSettings = surroundings.onLogSettings;
    this.#startSignal = surroundings.startSignal;
    this.#clock = clock;
    this.#log = log;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.actions = this.#makeActions(config, surroundings);
    this.#feedback = this.#makeFeedback(config);
    this.#following = this.#makeFollowing(config);
    this.#files = new WatchedFiles(this.#live, {
      clock,
      log: log.child({ component: 'config' }),
    });
    this.#users = this.#makeUsers();
    this.#desk = this.#makeDesk();
    this.#senders = this.#makeSenders();
    this.#freeSpace = new FreeSpace({ directory: config.storage.directory, clock });
    this.statusSource = new StatusBoard({
      version: readBuildInfo().version,
      clock,
      parts: {
        upstream: () => this.#following.status(),
        upstreamDelay: () => this.#following.delay(),
        store: () => this.#store?.status() ?? null,
        filesystem: () => this.#freeSpace.status(),
        standbys: () => this.#senders.statuses(),
        absentStandbys: () => this.#senders.absent(),
        standbyTotals: () => this.#senders.totals(),
        sync: () => this.#following.sync.picture(),
        feedback: () => this.#feedback.status(),
        slots: () => this.#slots?.list() ?? [],
        retention: () => this.#retention?.status() ?? NOTHING_RETAINED,
        identity: () => this.#identity(),
        readThrough: () => this.#readThrough?.status() ?? NOTHING_READ_THROUGH,
        certificates: () => this.#ports.certificates(),
        adminCommands: () => this.#desk.counts(),
      },
    });
    this.#ports = new RelayPorts({
      config: () => this.#config,
      clock,
      log,
      source: this.statusSource,
      actions: this.actions,
      accept: (open) => this.#senders.accept(open),
    });
  }

  /** The order matters: whatever can refuse comes before the store changes anything on disk. */
  async start(): Promise<void> {
    const { directory } = this.#config.storage;
    await prepareDataDirectory(directory);
    this.#mayGoOn();
    this.#lock = await DirectoryLock.acquire(directory);
    this.#mayGoOn();
    this.#freeSpace.start();
    await this.#users.load();
    this.#mayGoOn();
    await this.#ports.open();
    this.#mayGoOn();
    await this.#openStore();
    this.#mayGoOn();
    this.#following.start(this.#openedStore());
    this.#phase = 'started';
    this.#files.watch();
  }

  #mayGoOn(): void {
    if (!this.#startSignal.aborted) return;
    throw new OperationalError('START_ENDED', 'walcast was told to end before it had started');
  }

  reload(): Promise<ReloadReport> {
    return this.#live.reload();
  }

  /** What is in effect at this moment. */
  get #config(): Config {
    return this.#live.current;
  }

  async drain(): Promise<void> {
    if (this.#phase !== 'started') return await this.stop();
    this.#phase = 'draining';
    const deadlineMs = this.#clock.nowMs() + this.#config.drainTimeoutMs;
    this.statusSource.drain();
    this.#feedback.freeze();
    this.#senders.refuseNew();
    await this.#following.quiesce();
    // Nothing is taken in any more, so nothing beyond R is sent or acknowledged.
    await flushReceived(this.#store, this.#clock);
    if (this.#isStopping()) return;
    const endLsn = this.#store?.sendableLsn() ?? INVALID_LSN;
    this.#log.info('draining', {
      end_lsn: formatLsn(endLsn),
      standbys: this.#senders.statuses().length,
    });
    this.#following.withdraw();
    await this.#senders.drain(endLsn, deadlineMs);
    if (this.#isStopping()) return;
    // Standbys come back at once. Refused, libpq asks the next host of its list; cut off in the middle of a handshake, it asks nobody.
    this.#ports.stopListening();
    const answered = within(this.#clock, DRAIN_ANSWER_MS_MAX, this.#senders.empty());
    await Promise.all([this.#following.finish(), answered]);
    if (this.#isStopping()) return;
    this.#senders.terminate();
    await this.#close({ flushMs: DRAIN_CLOSE_MS_MAX, timeoutMs: 2 * DRAIN_CLOSE_MS_MAX });
  }

  async stop(): Promise<void> {
    this.#phase = 'stopping';
    // The HTTP port is closed last: nobody must be sent here meanwhile.
    this.statusSource.drain();
    this.#feedback.freeze();
    this.#ports.stopListening();
    this.#senders.terminate();
    await this.#close({ flushMs: STOP_FLUSH_MS_MAX, timeoutMs: STOP_CLOSE_MS_MAX });
  }

  halt(): void {
    this.#phase = 'stopping';
    this.#following.stop();
    this.#ports.stopListening();
    this.#senders.terminate();
  }

  #isStopping(): boolean {
    return this.#phase === 'stopping';
  }

  /** Once, however many ask; each waits no longer than its own `timeoutMs`. */
  async #close({ flushMs, timeoutMs }: { flushMs: number; timeoutMs: number }): Promise<void> {
    this.#closed ??= this.#closeParts(flushMs);
    const isClosed = await within(this.#clock, timeoutMs, this.#closed);
    if (!isClosed) this.#log.warn('closing takes too long; the rest is left as a crash would');
  }

  async #closeParts(flushMs: number): Promise<void> {
    this.#freeSpace.close();
    this.#readThrough?.close();
    this.#users.close();
    this.#files.stop();
    this.#following.stop();
    this.#retention?.close();
    await within(this.#clock, flushMs, this.#following.saved());
    await within(this.#clock, flushMs, this.#feedback.close());
    if (this.#slots !== null) await within(this.#clock, flushMs, this.#slots.close());
    await this.#store?.close({ timeoutMs: flushMs });
    await this.#ports.closeHttp();
    await this.#lock?.release();
    this.#lock = null;
  }

  /** While paused no new replication is started. */
  #pause(isPaused: boolean): void {
    this.#senders.setPaused(isPaused);
    if (!this.statusSource.pause(isPaused)) return;
    this.#log.info(
      isPaused
        ? 'paused: no new replication is started until it is resumed; streams that run go on'
        : 'resumed: standbys may start replication again',
    );
  }

  #makeActions(config: Config, surroundings: RelaySurroundings): RelayActions {
    return new RelayActionsOf({
      reload: () => this.#live.reload(),
      configuration: () => this.#live.entries(),
      drain: surroundings.onDrainRequested,
      shutdown: surroundings.onShutdownRequested,
      reconnect: () => this.#phase === 'started' && this.#following.reconnect(),
      pause: (isPaused) => this.#pause(isPaused),
      slots: () => this.#slots,
      hasWal: () => this.#identity() !== null,
      disconnect: (pid) => this.#senders.kill(pid),
      logLevels: surroundings.logLevels,
      releaseDeadWal: () => this.#store?.releaseDeadWal() ?? null,
      walFiles: new WalFiles({
        store: () => this.#store,
        dataDirectory: config.storage.directory,
        clock: this.#clock,
        repair: (damage) => this.#readThrough?.repair(damage) ?? damage,
      }),
    });
  }

  #makeFeedback(config: Config): StandbyFeedbackBook {
    const log = this.#log.child({ component: 'feedback' });
    return new StandbyFeedbackBook({
      settings: () => ({
        isOn: this.#config.upstream.hotStandbyFeedback,
        maxXminAge: this.#config.maxFeedbackXminAge,
      }),
      nextXid: () => this.#store?.facts().nextFullXid ?? null,
      slots: () => this.#slots,
      note: new FeedbackNote(config.storage.directory, log),
      onChanged: () => this.#following.feedbackChanged(),
      clock: this.#clock,
      log,
    });
  }

  #makeFollowing(config: Config): UpstreamFollowing {
    return new UpstreamFollowing({
      settings: config.upstream,
      directory: config.storage.directory,
      clock: this.#clock,
      log: this.#log,
      policy: () => this.#config.syncPolicy,
      standbys: () => this.#senders.syncStandbys(),
      standbyAddresses: () => this.#senders.statuses().map(({ clientAddr }) => clientAddr),
      feedback: this.#feedback,
      onFatal: (error) => void this.#onUpstreamFatal(error),
    });
  }

  #makeUsers(): ClientUsers {
    return new ClientUsers({
      config: () => this.#config,
      target: () => this.#following.targetToConnect(),
      followedHost: () => this.#following.followedHost(),
      clock: this.#clock,
      log: this.#log.child({ component: 'auth' }),
    });
  }

  #makeDesk(): AdminDesk {
    return new AdminDesk({
      actions: this.actions,
      source: { status: () => this.statusSource.standing() },
      isAdmin: (user) => this.#config.auth.adminUsers.has(user),
      clock: this.#clock,
      log: this.#log.child({ component: 'console' }),
    });
  }

  #makeSenders(): WalSenders {
    return new WalSenders({
      feed: this.#feed,
      slots: this.#registry,
      tunnels: this.#following.openTunnels(),
      feedback: this.#feedback,
      consoles: new ConsoleOpener(
        consoleSource({
          board: () => this.statusSource,
          configuration: () => this.#live.entries(),
          logLevels: () => this.actions.logLevels(),
          hbaRules: () => (this.#config.hba?.rules ?? NO_RULES).rules,
          store: () => this.#store,
          clock: this.#clock,
        }),
        this.#desk,
      ),
      identity: () => this.#identity(),
      hba: () => this.#config.hba?.rules ?? NO_RULES,
      identMaps: () => this.#config.auth.identMaps,
      names: new KnownHostNames(this.#clock),
      users: () => this.#users.directory(),
      connectionsMax: () => this.#ports.connectionsMax(),
      settings: () => senderSettings(this.#config, () => this.#following.relayPath()),
      clock: this.#clock,
      log: this.#log.child({ component: 'walsender' }),
      onReply: () => this.#following.sync.standbysMoved(),
    });
  }

  #reloadRefusal(): string | null {
    switch (this.#phase) {
      case 'starting':
        return 'walcast is still starting; read the configuration again when it has started';
      case 'started':
        return null;
      case 'draining':
      case 'stopping':
        return 'walcast is ending';
    }
  }

  /** What can refuse a configuration comes first; what is opened for it, last. */
  async #prepareConfig(next: Config, cause: ConfigCause): Promise<ApplyConfig> {
    const follow = this.#following.prepare(next.upstream, { isPasswordNews: cause === 'reload' });
    await this.#ports.prepare(next);
    return () => {
      follow();
      this.#following.sync.policyChanged();
      this.#feedback.changed();
      this.#readThrough?.settingsChanged();
      this.#ports.configChanged();
      this.#users.configChanged();
      this.#files.watch();
      this.#onLogSettings(next.log);
      // A smaller window is in effect at once, not with the next segment only: a full disk is why it is made smaller.
      this.#retention?.turn();
    };
  }

  /** Null, so that clients are told 57P03, until store and slots are both there and the upstream was identified once. */
  #identity(): ServerIdentity | null {
    return this.#isServing ? serverIdentity(this.#store) : null;
  }

  async #openStore(): Promise<void> {
    const { storage } = this.#config;
    const keepSize = (): number => effectiveKeepSize(this.#store, this.#config.storage);
    const store = await WalStore.open({
      directory: storage.directory,
      verify: storage.verify,
      forward: storage.forward,
      // Asked for whenever segments are removed or slots created: a reload may have changed it.
      get walKeepSizeBytes() {
        return keepSize();
      },
      clock: this.#clock,
      log: this.#log.child({ component: 'wal' }),
      onFatal: (error) => this.#onFatal(error),
    });
    this.#store = store;
    this.#readThrough = this.#openReadThrough(store);
    this.#feed.bind(new StoreFeed(store, this.#readThrough, this.#following));
    const slots = await this.#openSlots(store);
    this.#slots = slots;
    store.onTimelineSwitch(({ switchLsn }) => slots.cut(switchLsn));
    const config = (): Config => this.#config;
    const log = this.#log.child({ component: 'retention' });
    const retention = new Retention({ store, slots, config, clock: this.#clock, log });
    this.#retention = retention;
    await retention.start();
    this.#registry.bind(slots);
    await this.#feedback.load();
    store.onFlush(() => this.#following.positionsMoved());
    this.#isServing = true;
  }

  #openSlots(store: WalStore): Promise<SlotStore> {
    return openSlots({
      store,
      config: () => this.#config,
      terminate: (pid) => this.#senders.kill(pid, 'wal_removed'),
      onChange: () => {
        this.#retention?.turn();
        this.#feedback.changed();
      },
      clock: this.#clock,
      log: this.#log.child({ component: 'slot' }),
    });
  }

  #openReadThrough(store: WalStore): StoreReadThrough {
    return new StoreReadThrough({
      store,
      upstream: this.#following,
      applicationName: () => this.#config.upstream.applicationName,
      verify: this.#config.storage.verify,
      timeoutMs: () => this.#config.upstream.walReceiverTimeoutMs || HOLD_AHEAD_DEFAULT_MS,
      clock: this.#clock,
      log: this.#log.child({ component: 'read-through' }),
    });
  }

  /** Nothing is reported from here on; standbys keep what they have. */
  #onFatal(error: Error): void {
    this.statusSource.fail(error.message);
    this.#following.abandon();
    this.#feedback.abandon();
    this.#fail(error);
  }

  /** This server can never be followed. Nothing is wrong with the store: everything is closed in order first. */
  async #onUpstreamFatal(error: Error): Promise<void> {
    this.statusSource.fail(error.message);
    await this.stop();
    this.#fail(error);
  }

  #openedStore(): WalStore {
    if (this.#store === null) throw new InvariantError('the store is not open');
    return this.#store;
  }
}
