// WalSenders behind a real loopback port, over WAL in memory; with a standby that streams beside whatever a test does.
import { noUsers } from '../../src/auth/no-users.ts';
import type { UserDirectory } from '../../src/auth/user-directory.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { Log, LogFields } from '../../src/base/log.ts';
import { AdminDesk } from '../../src/console/admin-desk.ts';
import { ConsoleOpener } from '../../src/console/opener.ts';
import { Listener } from '../../src/net/listener.ts';
import type { ConnectionOpener } from '../../src/net/listener.ts';
import type { TlsAcceptor } from '../../src/net/tls-acceptor.ts';
import { parseHba } from '../../src/pg/hba.ts';
import { NO_IDENT_MAPS } from '../../src/pg/ident.ts';
import type { IdentMaps } from '../../src/pg/ident.ts';
import type { HbaRules, HostNames } from '../../src/pg/hba.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import type { ServerIdentity } from '../../src/walsender/ports.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { WalSenders } from '../../src/walsender/wal-senders.ts';
import type { WalSenderSettings } from '../../src/walsender/wal-senders.ts';
import { AdminActions } from './admin-actions.ts';
import { sampleConsole } from './console-source.ts';
import { MemoryFeed, MemorySlots, MemoryTunnels, walBytes } from './memory-wal.ts';
import { query, RawClient, StreamReader } from './raw-client.ts';
import { sampleStatus } from './relay-status.ts';

/** Where the WAL of the fixture begins and ends at first. */
export const OLDEST_LSN = 0x1000000n;
export const START_LSN = 0x1234000n;

/** How received bytes reach the session: as they come, or one at a time. */
export const CUTS = ['whole', 'byte by byte'] as const;
export type Cut = (typeof CUTS)[number];

/** Log lines as a test looks at them; those of children carry their fields. */
export class LogRecord implements Log {
  readonly lines: string[];
  readonly #bound: LogFields;

  constructor(lines: string[] = [], bound: LogFields = {}) {
    this.lines = lines;
    this.#bound = bound;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#add('debug', message, fields);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#add('info', message, fields);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#add('warn', message, fields);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#add('error', message, fields);
  }

  child(bound: LogFields): Log {
    return new LogRecord(this.lines, { ...this.#bound, ...bound });
  }

  #add(level: string, message: string, fields: LogFields): void {
    this.lines.push(`${level} ${message} ${JSON.stringify({ ...this.#bound, ...fields })}`);
  }
}

/** A server of `major` as clients are to see it. */
export function identityOf(major: number): ServerIdentity {
  return {
    systemIdentifier: '7300000000000000001',
    serverVersion: `${major}.1`,
    facts: versionFacts(major),
    segmentSize: toSegmentSize(1 << 24),
    parameters: new Map([
      ['application_name', 'walcast'],
      ['client_encoding', 'UTF8'],
      ['datestyle', 'ISO, MDY'],
      ['integer_datetimes', 'on'],
      ['is_superuser', 'on'],
      ['server_version', `${major}.1`],
      ['session_authorization', 'upstream_user'],
    ]),
    settings: new Map([
      ['wal_segment_size', '16MB'],
      ['data_directory_mode', '0700'],
      ['wal_level', 'replica'],
    ]),
  };
}

/** Reads rules that are known to be right. */
export function rules(text: string): HbaRules {
  const parsed = parseHba(text);
  if ('rules' in parsed) return parsed;
  throw new Error(JSON.stringify(parsed));
}

/** Everything a test plays with. */
export class Fixture {
  readonly feed = new MemoryFeed(OLDEST_LSN, START_LSN);
  readonly slots = new MemorySlots();
  readonly tunnels = new MemoryTunnels();
  readonly log = new LogRecord();
  identity: ServerIdentity | null;
  hba: HbaRules = rules('host replication all all trust');
  users: UserDirectory = noUsers();
  /** For rules with `map`. */
  identMaps: IdentMaps = NO_IDENT_MAPS;
  /** For rules with names of hosts. */
  names: HostNames = {
    nameOf: () => Promise.resolve(null),
    addressesOf: () => Promise.resolve([]),
  };
  settings: WalSenderSettings = {
    maxWalSenders: 100,
    ownSettings: new Map([['max_replication_slots', '50']]),
    walSenderTimeoutMs: 60_000,
    reserved: { slots: [], standbys: [] },
    authenticationTimeoutMs: 60_000,
    connectionsPerNetworkMax: null,
    logConnections: false,
    logDisconnections: false,
    logReplicationCommands: false,
    holdAheadMs: 2_000,
    drainTimeoutMs: 5_000,
    version: '0.1.0-test',
  };
  replies = 0;
  /** Who may change something by the console. */
  readonly admins = new Set<string>();
  readonly actions = new AdminActions();
  readonly desk: AdminDesk;
  connectionsMax: number = Number.POSITIVE_INFINITY;
  readonly senders: WalSenders;
  readonly #clients: RawClient[] = [];
  #listener: Listener | null = null;
  #beside: StreamReader | null = null;

  constructor(major = 15, clock: Clock = systemClock) {
    this.identity = identityOf(major);
    this.desk = new AdminDesk({
      actions: this.actions,
      source: { status: () => this.status() },
      isAdmin: (user) => this.admins.has(user),
      clock,
      log: this.log,
    });
    this.actions.disconnect = (pid) => this.senders.kill(pid);
    this.senders = new WalSenders({
      feed: this.feed,
      slots: this.slots,
      tunnels: this.tunnels,
      consoles: new ConsoleOpener(
        sampleConsole(() => this.status()),
        this.desk,
      ),
      identity: () => this.identity,
      hba: () => this.hba,
      identMaps: () => this.identMaps,
      users: () => this.users,
      names: {
        nameOf: (address) => this.names.nameOf(address),
        addressesOf: (name) => this.names.addressesOf(name),
      },
      connectionsMax: () => this.connectionsMax,
      settings: () => this.settings,
      clock,
      log: this.log,
      onReply: () => {
        this.replies += 1;
      },
      localAddresses: () => [{ address: '127.0.0.1', netmask: '255.0.0.0' }],
    });
  }

  /** What the console shows: the standbys of this fixture, none of which is synchronous. */
  status(): RelayStatus {
    const standbys = this.senders
      .statuses()
      .map((standby) => ({ ...standby, syncState: 'async' as const, syncPriority: 0 }));
    const { isPaused, isDraining } = this.actions;
    return sampleStatus({ standbys, isPaused, isDraining });
  }

  /** Opens the port. With `beside`, a standby starts to stream and is checked again at the end. */
  static async start(
    options: {
      major?: number;
      cut?: Cut;
      beside?: boolean;
      clock?: Clock;
      tls?: TlsAcceptor;
    } = {},
  ): Promise<Fixture> {
    const fixture = new Fixture(options.major, options.clock);
    fixture.#listener = await Listener.open({
      target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      connectionsMax: 1000,
      onConnection: (open) =>
        fixture.senders.accept(options.cut === 'byte by byte' ? byteByByte(open) : open),
    });
    if (options.beside === true) await fixture.#startBeside();
    return fixture;
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  async connect(): Promise<RawClient> {
    const client = await RawClient.open(this.port);
    this.#clients.push(client);
    return client;
  }

  /** A client that has been let in. */
  async standby(
    parameters: Readonly<Record<string, string>> = {},
  ): ReturnType<typeof RawClient.standby> {
    const session = await RawClient.standby(this.port, parameters);
    this.#clients.push(session.client);
    return session;
  }

  /** A client that streams from `startLsn` on. */
  async stream(
    startLsn: bigint = START_LSN,
    options: { parameters?: Readonly<Record<string, string>>; slot?: string } = {},
  ): Promise<StreamReader & { pid: number }> {
    const { client, pid } = await this.standby(options.parameters);
    const slot = options.slot === undefined ? '' : `SLOT "${options.slot}" `;
    client.send(query(`START_REPLICATION ${slot}0/${startLsn.toString(16)} TIMELINE 1`));
    const response = await client.next();
    if (response?.type !== 'W') throw new Error(`no CopyBothResponse but ${response?.type}`);
    return Object.assign(new StreamReader(client, startLsn), { pid });
  }

  /** More WAL reaches the standby beside, without a gap and byte for byte; then everything is closed. */
  async finish(): Promise<void> {
    if (this.#beside !== null) {
      const endLsn = this.feed.append(10_000);
      await this.#beside.readTo(endLsn);
      const startLsn = endLsn - BigInt(this.#beside.wal().length);
      if (!this.#beside.wal().equals(walBytes(startLsn, endLsn))) {
        throw new Error('the standby beside got other bytes');
      }
    }
    this.close();
  }

  close(): void {
    for (const client of this.#clients) client.close();
    this.#listener?.close();
    this.senders.terminate();
  }

  async #startBeside(): Promise<void> {
    this.#beside = await this.stream(START_LSN, { parameters: { application_name: 'beside' } });
    await this.#beside.readTo(this.feed.append(10_000));
  }
}

/** A connection whose bytes come one at a time, and not at all while reading is paused. */
function byteByByte(open: ConnectionOpener): ConnectionOpener {
  return (events) => {
    let unread = Buffer.alloc(0);
    let isPaused = false;
    const deliver = (): void => {
      while (unread.length > 0 && !isPaused) {
        const byte = unread.subarray(0, 1);
        unread = unread.subarray(1);
        events.onBytes(byte);
      }
    };
    const connection = open({
      onBytes: (chunk) => {
        unread = Buffer.concat([unread, chunk]);
        deliver();
      },
      onDrain: () => events.onDrain(),
      onEnd: () => events.onEnd(),
      onClose: (code) => events.onClose(code),
    });
    return {
      peer: connection.peer,
      isEncrypted: connection.isEncrypted,
      tls: connection.tls,
      canStartTls: connection.canStartTls,
      startTls: (start) => connection.startTls(start),
      pendingBytes: () => connection.pendingBytes(),
      write: (chunks) => connection.write(chunks),
      pauseReading: () => {
        isPaused = true;
        connection.pauseReading();
      },
      resumeReading: () => {
        isPaused = false;
        connection.resumeReading();
        deliver();
      },
      end: (graceMs) => connection.end(graceMs),
      destroy: () => connection.destroy(),
    };
  };
}
