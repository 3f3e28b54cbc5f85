// A whole relay in this process between a played upstream and standbys made of raw bytes: what is said upstream when the
// standbys say this and that?
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LogLevels } from '../../src/base/log-levels.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import { startRelay } from '../../src/relay/relay.ts';
import type { Relay } from '../../src/relay/relay.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { freePort } from '../harness/free-port.ts';
import { eventually } from './eventually.ts';
import { i64, message } from './naive-writer.ts';
import { query, RawClient, statusUpdate, StreamReader } from './raw-client.ts';
import { COPY_BOTH, playedServer, ScriptedUpstream, walData } from './scripted-upstream.ts';
import type { PlayedServer, PlayedStatus, ScriptedSession } from './scripted-upstream.ts';
import { WalFixture } from './wal-fixture.ts';
import { LogRecord } from './wal-senders-fixture.ts';

/** Write, flush, apply. */
export type Claim = readonly [write: bigint, flush: bigint, apply: bigint];

/** What to set up. */
export interface SyncRelayOptions {
  readonly names?: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** What the upstream answers to SHOW. */
  readonly upstreamSettings?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
}

/** The relay, its upstream and its standbys. */
export class SyncRelay implements AsyncDisposable {
  /** What the upstream writes. */
  wal = new WalFixture();
  readonly log = new LogRecord();
  readonly #options: SyncRelayOptions;
  readonly #directory: string;
  readonly #clients: RawClient[] = [];
  #upstream: ScriptedUpstream | null = null;
  #port = 0;
  #hasBegun = false;
  #names: string;
  #settings: Readonly<Record<string, string>>;
  #relay: Relay | null = null;

  private constructor(directory: string, options: SyncRelayOptions) {
    this.#directory = directory;
    this.#options = options;
    this.#names = options.names ?? '';
    this.#settings = options.settings ?? {};
    this.wal.fill(20_000);
  }

  /** Nothing is connected yet, and nothing stored. */
  static async start(options: SyncRelayOptions = {}): Promise<SyncRelay> {
    const directory = await mkdtemp(join(tmpdir(), 'walcast-sync-relay-'));
    const rig = new SyncRelay(directory, options);
    rig.#upstream = await ScriptedUpstream.listen();
    rig.#port = await freePort();
    await rig.startRelay();
    return rig;
  }

  /** The relay, once more over the same directory; with other `settings`, where some are given. */
  async startRelay(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#settings = { ...this.#settings, ...settings };
    await this.#writeConfig();
    const readConfig = (): LoadedConfig => this.#load();
    const loaded = readConfig();
    if (!('config' in loaded)) throw new Error(JSON.stringify(loaded.errors));
    this.#relay = await startRelay(loaded.config, {
      clock: this.#options.clock ?? systemClock,
      log: this.log,
      readConfig,
      logLevels: new LogLevels({ level: 'info', levels: new Map() }, []),
      onLogSettings: () => {},
      onDrainRequested: () => {},
      onShutdownRequested: () => {},
      startSignal: new AbortController().signal,
    });
  }

  get relay(): Relay {
    if (this.#relay === null) throw new Error('the relay does not run');
    return this.#relay;
  }

  get status(): RelayStatus {
    return this.relay.statusSource.status();
  }

  /** Another policy, by a reload. */
  async reloadNames(names: string): Promise<void> {
    this.#names = names;
    await this.#writeConfig();
    const report = await this.relay.reload();
    if (report.problems.length > 0) throw new Error(JSON.stringify(report));
  }

  /** The next connection of the relay, which streams; the first one gets all WAL there is so far. */
  async upstream(server: PlayedServer = this.server()): Promise<PlayedUpstream> {
    const session = await this.#listening().accept();
    this.#hasBegun = true;
    await session.login(server);
    const start = await session.identify(server);
    session.send(COPY_BOTH);
    const [, high = '', low = ''] = /([0-9A-F]+)\/([0-9A-F]+) TIMELINE/.exec(start) ?? [];
    const startLsn = (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
    return new PlayedUpstream(session, this.wal, startLsn);
  }

  /** The next connection of the relay, with nothing said yet. */
  accept(): Promise<ScriptedSession> {
    return this.#listening().accept();
  }

  /** Closes the next connection of the relay without a word. */
  async refuse(): Promise<void> {
    (await this.#listening().accept()).end();
  }

  /** As it stands, on timeline 1 unless told otherwise. */
  server(overrides: Partial<PlayedServer> = {}): PlayedServer {
    const { settings } = playedServer();
    return playedServer({
      systemIdentifier: this.wal.systemIdentifier,
      serverVersion: '15.1',
      // An empty store begins where the server stands.
      xlogPos: formatLsn(this.#hasBegun ? this.wal.endLsn : this.wal.startLsn),
      slots: { walcast: ['physical', formatLsn(this.wal.startLsn)] },
      settings: { ...settings, wal_segment_size: '1MB', ...this.#options.upstreamSettings },
      ...overrides,
    });
  }

  /** The upstream's WAL goes on at `switchLsn` as timeline 2. */
  follow(left: WalFixture, switchLsn: Lsn): WalFixture {
    this.wal = left.branch(switchLsn, toTimelineId(2));
    return this.wal;
  }

  /** As the server that was promoted there. */
  promoted(switchLsn: Lsn): PlayedServer {
    const history = `1\t${formatLsn(switchLsn)}\tno recovery target\n`;
    return this.server({
      timeline: '2',
      xlogPos: formatLsn(this.wal.endLsn),
      histories: { 2: ['00000002.history', history] },
    });
  }

  /** A standby that streams from the store's beginning on and has been sent everything up to `lsn`. */
  async standby(
    applicationName: string,
    { lsn = this.wal.endLsn, timeline = 1 }: { lsn?: Lsn; timeline?: number } = {},
  ): Promise<PlayedStandby> {
    const parameters = { application_name: applicationName };
    const { client, pid } = await RawClient.standby(this.#port, parameters);
    this.#clients.push(client);
    const standby = new PlayedStandby(client, pid, this.wal.startLsn);
    await standby.start(timeline);
    await standby.readTo(lsn);
    await eventually(() => this.#stateOf(pid)).toBe('streaming');
    return standby;
  }

  /** Lines of the log that contain `text`. */
  linesWith(text: string): string[] {
    return this.log.lines.filter((line) => line.includes(text));
  }

  async stop(): Promise<void> {
    await this.#relay?.stop();
    this.#relay = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.stop();
    await this.#upstream?.[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true });
  }

  #stateOf(pid: number): string | undefined {
    return this.status.standbys.find((standby) => standby.pid === pid)?.state;
  }

  #listening(): ScriptedUpstream {
    if (this.#upstream === null) throw new Error('no upstream listens');
    return this.#upstream;
  }

  async #writeConfig(): Promise<void> {
    const path = join(this.#directory, 'walcast.yaml');
    await writeFile(path, `synchronous_standby_names: ${JSON.stringify(this.#names)}\n`);
  }

  #load(): LoadedConfig {
    const settings = {
      'upstream.conninfo': `host=127.0.0.1 port=${this.#listening().port} user=replicator sslmode=disable`,
      'upstream.slot': '',
      'upstream.wal_receiver_status_interval': '0',
      listen: `127.0.0.1:${this.#port}`,
      'auth.hba': 'host replication all 127.0.0.1/32 trust',
      'storage.directory': join(this.#directory, 'data'),
      'http.listen': '',
      ...this.#settings,
    };
    const flags = Object.entries(settings).map(([path, text]) => ({ path, text, flag: '--set' }));
    const file = join(this.#directory, 'walcast.yaml');
    return loadConfig({ flags, env: {}, file, workingDirectory: this.#directory });
  }
}

/** One connection of the relay to its upstream. Every status update is kept as it comes. */
export class PlayedUpstream {
  readonly session: ScriptedSession;
  readonly reports: PlayedStatus[] = [];
  /** Hot standby feedback as it came. */
  readonly feedback: Xmins[] = [];
  readonly #wal: WalFixture;
  #sentLsn: bigint;
  #isOver = false;
  #seen = 0;
  #hasCopyDone = false;
  #wake: (() => void)[] = [];

  constructor(session: ScriptedSession, wal: WalFixture, startLsn: bigint) {
    this.session = session;
    this.#wal = wal;
    this.#sentLsn = startLsn;
    void this.#read();
  }

  /** Sends all WAL that was written and not sent yet, as one message. */
  send(): void {
    const { endLsn } = this.#wal;
    if (endLsn === this.#sentLsn) return;
    this.session.send(walData(this.#sentLsn, this.#wal.slice(this.#sentLsn, endLsn)));
    this.#sentLsn = endLsn;
  }

  /** One more record, sent; its end. */
  commit(): Lsn {
    const { endLsn } = this.#wal.record({ xid: 800, body: Buffer.alloc(100) });
    this.send();
    return endLsn;
  }

  /** A commit that waits to be applied: XACT_COMPLETION_APPLY_FEEDBACK. */
  commitToBeApplied(): Lsn {
    const body = Buffer.alloc(14);
    body[0] = 255;
    body[1] = 12;
    body.writeUInt32LE(1 << 29, 10);
    const { endLsn } = this.#wal.record({ rmgrId: 1, info: 0x80, xid: 800, body });
    this.send();
    return endLsn;
  }

  get last(): PlayedStatus | undefined {
    return this.reports.at(-1);
  }

  /** True once the relay has ended the stream. */
  get isEnded(): boolean {
    return this.#hasCopyDone || this.#isOver;
  }

  /** Resolves with the next report, of those not looked at yet, that is these positions; rejects when the relay closed. */
  async reported(write: bigint, flush: bigint, apply: bigint): Promise<void> {
    await this.until(
      `${write} ${flush} ${apply}`,
      (report) => report.write === write && report.flush === flush && report.apply === apply,
    );
  }

  /** Resolves with the next report, of those not looked at yet, that is one of these. */
  async until(what: string, isIt: (report: PlayedStatus) => boolean): Promise<PlayedStatus> {
    for (;;) {
      const report = this.reports[this.#seen];
      if (report !== undefined) {
        this.#seen += 1;
        if (isIt(report)) return report;
      } else if (this.#isOver) {
        throw new Error(`the relay closed before it reported ${what}`);
      } else {
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    }
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const { type, body } = await this.session.next();
        if (type === 'c') this.#endStream();
        if (type === 'd' && body[0] === 0x72) this.#take(body);
        if (type === 'd' && body[0] === 0x68) this.feedback.push(xminsOf(body));
      }
    } catch {
      this.#isOver = true;
      this.#tell();
    }
  }

  #endStream(): void {
    this.#hasCopyDone = true;
    this.session.send(message('c'));
    this.session.end();
  }

  #take(body: Buffer): void {
    this.reports.push({
      write: body.readBigUInt64BE(1),
      flush: body.readBigUInt64BE(9),
      apply: body.readBigUInt64BE(17),
      replyRequested: body[33] === 1,
    });
    this.#tell();
  }

  #tell(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** A standby that says what it is told to say. */
export class PlayedStandby {
  readonly client: RawClient;
  readonly pid: number;
  readonly reader: StreamReader;

  constructor(client: RawClient, pid: number, startLsn: bigint) {
    this.client = client;
    this.pid = pid;
    this.reader = new StreamReader(client, startLsn);
  }

  async start(timeline: number): Promise<void> {
    const place = formatLsnOf(this.reader.endLsn);
    this.client.send(query(`START_REPLICATION ${place} TIMELINE ${timeline}`));
    const response = await this.client.next();
    if (response?.type !== 'W') throw new Error(`no CopyBothResponse but ${response?.type}`);
  }

  /** Reads until it has everything up to `lsn`. */
  async readTo(lsn: bigint): Promise<void> {
    const other = await this.reader.readTo(lsn);
    if (other !== null) throw new Error(`got ${other.type} instead of WAL`);
  }

  /** One position for all three, or each its own. */
  say(write: bigint, flush = write, apply = flush): void {
    this.client.send(statusUpdate(write, flush, apply));
  }

  /** Hot standby feedback: full transaction ids, 0 = none. */
  feedBack(xmin: bigint, catalogXmin = 0n): void {
    const words = [xmin, catalogXmin].map((xid) =>
      i64(BigInt.asUintN(64, xid << 32n) | (xid >> 32n)),
    );
    this.client.send(message('d', 'h', i64(0n), ...words));
  }

  leave(): void {
    this.client.close();
  }
}

/** The ids of a message: xid, then its epoch, twice; null = none. */
function xminsOf(body: Buffer): Xmins {
  const xidAt = (at: number): bigint | null => {
    const xid = body.readUInt32BE(at);
    return xid === 0 ? null : (BigInt(body.readUInt32BE(at + 4)) << 32n) | BigInt(xid);
  };
  return { xmin: xidAt(9), catalogXmin: xidAt(17) };
}

function formatLsnOf(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`;
}
