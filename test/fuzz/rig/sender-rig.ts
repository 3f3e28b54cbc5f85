// Walsenders without sockets: one healthy standby streams all the time, and one client after the other says what an input
// has it say. Afterwards nothing of the client is left, and the standby has every byte.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { silentLog } from '../../../src/base/log.ts';
import { AdminDesk } from '../../../src/console/admin-desk.ts';
import { ConsoleOpener } from '../../../src/console/opener.ts';
import type { ConnectionEvents } from '../../../src/net/connection.ts';
import { SUPPORTED_MAJORS } from '../../../src/pg/server-version.ts';
import type { RelayStatus } from '../../../src/status/status.ts';
import type { ServerIdentity } from '../../../src/walsender/ports.ts';
import { WalSenders } from '../../../src/walsender/wal-senders.ts';
import type { WalSenderSettings, WalSendersOptions } from '../../../src/walsender/wal-senders.ts';
import { AdminActions } from '../../support/admin-actions.ts';
import { sampleConsole } from '../../support/console-source.ts';
import { MemoryFeed, MemorySlots } from '../../support/memory-wal.ts';
import { cstr, message } from '../../support/naive-writer.ts';
import { startup } from '../../support/raw-session.ts';
import { sampleStatus } from '../../support/relay-status.ts';
import { Fixture, identityOf, rules } from '../../support/wal-senders-fixture.ts';
import { amountOf } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { Canary, TargetRun } from '../engine/target.ts';
import { AnswerCheck } from './answer-check.ts';
import { sing } from './canary.ts';
import { FakeConnection } from './fake-connection.ts';
import { FuzzClock } from './fuzz-clock.ts';
import { FuzzTunnels } from './fuzz-tunnels.ts';
import { madeWal, RIG_OLDEST_LSN, RIG_START_LSN } from './made-wal.ts';

const IDENTITIES: readonly ServerIdentity[] = SUPPORTED_MAJORS.map(identityOf);
/** Where the standby beside comes from, and nobody else. */
export const BESIDE_ADDRESS = '127.0.0.9';
const BESIDE = { address: BESIDE_ADDRESS, port: 9 };
/** Less than half of wal_sender_timeout. */
const HOP_MS = 20_000;
const TIME_MS_MAX = 90_000;
const WAL_BYTES_MAX = 600;
const TURNS_MAX = 50;
/** Inputs after which the standby beside gets WAL. */
const BESIDE_EVERY = 32;
/** Timers of what belongs to no session. */
const TIMERS_BESIDES = 4;

/** What differs between targets. */
export interface SenderRigOptions {
  readonly canary: Canary | null;
  readonly hba?: string;
  readonly options?: Partial<WalSendersOptions>;
  /** Makes the bytes of a step what they should be at this moment: who logs in needs what the server said. */
  readonly prepare?: (step: Step, check: AnswerCheck) => Uint8Array;
  /** Looks at what became of an input; `said`: everything that was. */
  readonly afterwards?: (check: AnswerCheck, said: Buffer) => void;
}

/** Everything one target talks to. */
export class SenderRig {
  readonly clock = new FuzzClock();
  readonly feed = new MemoryFeed(RIG_OLDEST_LSN, RIG_START_LSN);
  readonly slots = new MemorySlots();
  readonly tunnels = new FuzzTunnels();
  readonly senders: WalSenders;
  readonly #options: SenderRigOptions;
  readonly #besideCheck = new AnswerCheck();
  readonly #beside: FakeConnection;
  #identity: ServerIdentity = IDENTITIES[0] ?? identityOf(18);
  #clients = 0;

  constructor(options: SenderRigOptions) {
    this.#options = options;
    this.feed.make = (start, end) => Buffer.from(madeWal(start, end));
    this.senders = new WalSenders(this.#sendersOptions());
    this.#beside = new FakeConnection(BESIDE, (chunk) => this.#besideCheck.take(chunk));
  }

  /** Lets the standby beside stream. */
  async start(): Promise<void> {
    this.#accept(this.#beside, null);
    this.#beside.say(startup({ user: 'beside', replication: 'true', application_name: 'beside' }));
    await nextTurn();
    this.#beside.turn();
    const lsn = `0/${RIG_START_LSN.toString(16)}`;
    this.#beside.say(message('Q', cstr(`START_REPLICATION ${lsn} TIMELINE 1`)));
    await this.checkBeside();
  }

  /** One client, from its first byte to its end. Returns how many of its messages were taken. */
  async run(session: FuzzSession): Promise<number> {
    this.#identity = IDENTITIES[session.variant % IDENTITIES.length] ?? this.#identity;
    this.tunnels.isBroken = session.variant % 16 === 15;
    const check = new AnswerCheck();
    this.#clients += 1;
    const count = this.#clients % 60_000;
    const peer = { address: `10.0.${count >> 8}.${count & 255}`, port: 1024 + count };
    const connection = new FakeConnection(peer, (chunk) => check.take(chunk));
    this.#accept(connection, this.#options.canary);
    const said: Uint8Array[] = [];
    const taken = await this.#play(session, { connection, check, said });
    await this.#finish(connection);
    check.end();
    this.#options.afterwards?.(check, Buffer.concat(said));
    this.#checkNothingLeft();
    if (this.#clients % BESIDE_EVERY === 0) await this.checkBeside();
    return taken;
  }

  /** More WAL reaches the standby beside, and what it has got is right. */
  async checkBeside(): Promise<void> {
    const endLsn = this.feed.append(64 + (this.#clients % 200));
    for (let turn = 0; turn < TURNS_MAX && this.#besideCheck.endLsn < endLsn; turn += 1) {
      await nextTurn();
      this.#beside.turn();
    }
    this.#besideCheck.check();
    requireThat(!this.#beside.isOver, 'the standby beside was disconnected');
    requireThat(
      this.#besideCheck.endLsn === endLsn,
      'the standby beside does not get its WAL any more',
    );
    this.#replyBeside();
    const { timers } = this.clock;
    requireThat(timers < 8 + TIMERS_BESIDES, `${timers} timers are set while one standby streams`);
  }

  /** Everybody goes; nothing is left. */
  async close(): Promise<void> {
    this.senders.terminate();
    this.#beside.turn();
    this.clock.advance(3_600_000);
    await nextTurn();
    requireThat(this.senders.statuses().length === 0, 'a session is listed that was closed');
    requireThat(this.feed.listenerCount === 0, 'somebody listens for WAL though nobody is there');
    requireThat(
      this.clock.timers === 0,
      `${this.clock.timers} timers are set though nobody is there`,
    );
  }

  #accept(connection: FakeConnection, canary: Canary | null): void {
    let isTaken = false;
    this.senders.accept((events) => {
      isTaken = true;
      connection.attach(canary === null ? events : this.#haunted(events, canary));
      return connection;
    });
    requireThat(isTaken, 'there is no room for one more client though the ones before have gone');
  }

  #haunted(events: ConnectionEvents, canary: Canary): ConnectionEvents {
    return {
      onBytes: (chunk) => {
        sing(canary, chunk, this.feed);
        events.onBytes(chunk);
      },
      onDrain: () => events.onDrain(),
      onEnd: () => events.onEnd(),
      onClose: (code) => events.onClose(code),
    };
  }

  async #play(
    session: FuzzSession,
    {
      connection,
      check,
      said,
    }: { connection: FakeConnection; check: AnswerCheck; said: Uint8Array[] },
  ): Promise<number> {
    const { prepare, afterwards } = this.#options;
    let count = 0;
    let glued: Uint8Array[] = [];
    const flush = (): void => {
      if (glued.length === 0) return;
      const all = glued.length === 1 ? glued[0] : Buffer.concat(glued);
      glued = [];
      for (let at = 0; all !== undefined && at < all.length; at += session.chunk) {
        if (!connection.say(all.subarray(at, at + session.chunk))) return;
      }
    };
    for (const step of session.steps) {
      if (connection.isOver) break;
      if (step.kind === 'say') {
        const bytes = prepare === undefined ? step.bytes : prepare(step, check);
        if (afterwards !== undefined) said.push(bytes);
        if (session.chunk === 0) connection.say(bytes);
        else glued.push(bytes);
        count += 1;
        continue;
      }
      flush();
      if (step.kind === 'upstream') check.isTunnelled = true;
      await this.#happen(step, connection);
    }
    flush();
    return count;
  }

  async #happen(step: Step, connection: FakeConnection): Promise<void> {
    switch (step.kind) {
      case 'turn':
        await nextTurn();
        break;
      case 'time':
        await this.#pass(amountOf(step, TIME_MS_MAX));
        break;
      case 'wal':
        this.feed.append(amountOf(step, WAL_BYTES_MAX));
        await nextTurn();
        break;
      case 'full':
        connection.fill();
        break;
      case 'drain':
        connection.drain();
        break;
      case 'upstream':
        await nextTurn();
        this.tunnels.say(step.bytes);
        break;
      case 'end':
        connection.end();
        break;
      default:
        break;
    }
    connection.turn();
  }

  async #pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= HOP_MS) {
      this.clock.advance(Math.min(left, HOP_MS));
      this.#beside.turn();
      this.#replyBeside();
    }
    await nextTurn();
  }

  #replyBeside(): void {
    const body = Buffer.alloc(34);
    body[0] = 0x72;
    const lsn = this.#besideCheck.endLsn === 0n ? RIG_START_LSN : this.#besideCheck.endLsn;
    for (const at of [1, 9, 17]) body.writeBigUInt64BE(lsn, at);
    this.#beside.say(message('d', body));
  }

  async #finish(connection: FakeConnection): Promise<void> {
    connection.drain();
    connection.end();
    for (let turn = 0; turn < TURNS_MAX && !connection.isClosed; turn += 1) {
      await nextTurn();
      connection.turn();
      if (turn === 4) this.tunnels.end(null);
      if (turn === 8) connection.lose();
    }
    await nextTurn();
    await nextTurn();
  }

  #checkNothingLeft(): void {
    requireThat(this.senders.statuses().length === 1, 'a client is listed that has gone');
    requireThat(this.feed.listenerCount === 2, 'somebody listens for WAL who has gone');
    for (const [name, { activePid, temporary }] of this.slots.slots) {
      requireThat(activePid === null, `slot "${name}" is held by a client that has gone`);
      requireThat(!temporary, `temporary slot "${name}" outlived its client`);
      this.slots.slots.delete(name);
    }
    this.slots.advances.length = 0;
    requireThat(this.slots.waitingToDrop.size === 0, 'a drop waits whose client has gone');
    requireThat(this.tunnels.takeLeft() === 0, 'a tunnel is open whose client has gone');
  }

  #sendersOptions(): WalSendersOptions {
    return {
      feed: this.feed,
      slots: this.slots,
      tunnels: this.tunnels,
      consoles: new ConsoleOpener(
        sampleConsole(() => this.#status()),
        this.#desk(),
      ),
      identity: () => this.#identity,
      hba: rulesOnce(this.#options.hba ?? 'host replication,walcast all all trust'),
      // The standby beside, one client, and one that may be on its way out.
      connectionsMax: () => 3,
      settings: () => SETTINGS,
      clock: this.clock,
      log: silentLog,
      onReply: () => {},
      localAddresses: () => LOCAL_ADDRESSES,
      ...this.#options.options,
    };
  }

  /** Anybody may change anything, which takes a while and does nothing. */
  #desk(): AdminDesk {
    const { clock } = this;
    const actions = new AdminActions();
    Object.defineProperty(actions, 'gate', {
      get: nextTurn,
    });
    const source = { status: (): RelayStatus => this.#status() };
    return new AdminDesk({ actions, source, isAdmin: () => true, clock, log: silentLog });
  }

  #status(): RelayStatus {
    const standbys = this.senders
      .statuses()
      .map((standby) => ({ ...standby, syncState: 'async' as const, syncPriority: 0 }));
    return sampleStatus({ standbys });
  }
}

const LOCAL_ADDRESSES = [{ address: '127.0.0.1', netmask: '255.0.0.0' }];

const SETTINGS: WalSenderSettings = {
  ...new Fixture().settings,
  maxWalSenders: 10,
  walSenderTimeoutMs: 60_000,
  logConnections: true,
  logDisconnections: true,
  logReplicationCommands: true,
};

function rulesOnce(text: string): WalSendersOptions['hba'] {
  const parsed = rules(text);
  return () => parsed;
}

/** Inputs after which the rig is made anew: its WAL grows, and what closing leaves is looked at. */
const INPUTS_PER_RIG = 200;

/** A target's run over rigs, one after the other. */
export class SenderRun implements TargetRun {
  readonly #options: SenderRigOptions;
  #rig: SenderRig | null = null;
  #inputs = 0;

  constructor(options: SenderRigOptions) {
    this.#options = options;
  }

  async run(session: FuzzSession): Promise<number> {
    this.#inputs += 1;
    if (this.#inputs % INPUTS_PER_RIG === 0) await this.close();
    if (this.#rig === null) {
      this.#rig = new SenderRig(this.#options);
      await this.#rig.start();
    }
    return await this.#rig.run(session);
  }

  async check(): Promise<void> {
    await this.#rig?.checkBeside();
  }

  async close(): Promise<void> {
    const rig = this.#rig;
    this.#rig = null;
    await rig?.close();
  }
}
