// A walcast of its own process between a played upstream and played standbys: for tests of how it ends, whatever the two
// do at that moment. Everything the upstream is told is written down.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import { RawClient, StreamReader, query, statusUpdate } from '../support/raw-client.ts';
import {
  COPY_BOTH,
  READY,
  ScriptedUpstream,
  answer,
  complete,
  keepalive,
  playedServer,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, PlayedStatus, ScriptedSession } from '../support/scripted-upstream.ts';
import { message } from '../support/naive-writer.ts';
import { WalFixture } from '../support/wal-fixture.ts';
import { attempt, httpJson, programPid } from './fault-support.ts';
import type { Attempt, AttemptOptions } from './fault-support.ts';

const WAL_MESSAGE_BYTES = 64 * 1024;
const COPY_DONE = message('c');
const TOKEN = 'a-token-for-tests-only';

/** What the played upstream does; every member may be changed while it plays. */
export interface UpstreamPart {
  /** Where it falls silent, for ever; null: nowhere. */
  silentAt: 'startup' | 'identify' | 'start' | 'copy-done' | null;
  /** Answer to START_REPLICATION instead of a stream. */
  refuseStart: Uint8Array | null;
  /** What a BASE_BACKUP is answered with, and nothing behind it. */
  backup: Uint8Array | null;
}

/** WAL of a server that nobody runs. */
export function playedWal(byteCount: number): WalFixture {
  const fixture = new WalFixture({ major: 15 });
  fixture.fill(byteCount);
  return fixture;
}

/** One upstream, any number of sessions. */
export class PlayedUpstream implements AsyncDisposable {
  readonly part: UpstreamPart = { silentAt: null, refuseStart: null, backup: null };
  readonly fixture: WalFixture;
  readonly server: PlayedServer;
  /** All status updates of all streams, in order. */
  readonly statuses: PlayedStatus[] = [];
  /** Streams that the client ended in order, with CopyDone and then Terminate. */
  goodbyes = 0;
  readonly port: number;
  readonly #listener: ScriptedUpstream;
  #streams = new Set<{ session: ScriptedSession; sentLsn: bigint }>();

  private constructor(listener: ScriptedUpstream, fixture: WalFixture) {
    this.#listener = listener;
    this.port = listener.port;
    this.fixture = fixture;
    this.server = playedServer({
      serverVersion: '15.18',
      systemIdentifier: fixture.systemIdentifier,
      xlogPos: formatLsn(fixture.endLsn),
    });
    this.server.settings['wal_segment_size'] = `${fixture.segmentSize >> 20}MB`;
    void this.#acceptAll();
  }

  static async open(fixture: WalFixture): Promise<PlayedUpstream> {
    return new PlayedUpstream(await ScriptedUpstream.listen(), fixture);
  }

  /** Connections so far. */
  get accepted(): number {
    return this.#listener.accepted;
  }

  get isStreaming(): boolean {
    return this.#streams.size > 0;
  }

  /** Ends the timeline of every stream, as a server does that was promoted. */
  endTimeline(): void {
    for (const { session } of this.#streams) session.send(COPY_DONE);
  }

  /** A keepalive on every stream. */
  keepAlive(replyRequested = false): void {
    for (const { session } of this.#streams) {
      session.send(keepalive(this.fixture.endLsn, replyRequested));
    }
  }

  /** Writes so much more WAL, and sends it. */
  sendMore(byteCount: number): void {
    this.fixture.fill(byteCount);
    this.server.xlogPos = formatLsn(this.fixture.endLsn);
    for (const stream of this.#streams) this.#sendWal(stream);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener[Symbol.asyncDispose]();
  }

  async #acceptAll(): Promise<void> {
    for (;;) {
      const session = await this.#listener.accept();
      // The client may leave at any moment: that is no failure here.
      void this.#play(session).catch(() => {});
    }
  }

  async #play(session: ScriptedSession): Promise<void> {
    const { part, server } = this;
    if (part.silentAt === 'startup') return;
    await session.login(server);
    for (;;) {
      const { type, body } = await session.next();
      if (type === 'X') return session.end();
      const command = body.subarray(0, -1).toString();
      if (part.silentAt === 'identify') return;
      if (command.startsWith('BASE_BACKUP') && part.backup !== null) {
        session.send(part.backup);
      } else if (!isStart(command)) {
        session.send(answer(server, command), READY);
      } else if (part.refuseStart !== null) {
        session.send(part.refuseStart, READY);
      } else if (part.silentAt !== 'start') {
        await this.#stream(session, command);
      }
    }
  }

  async #stream(session: ScriptedSession, command: string): Promise<void> {
    const asked = /([0-9A-F]+)\/([0-9A-F]+) TIMELINE/.exec(command);
    const startLsn = BigInt(`0x${asked?.[1]}`) * 2n ** 32n + BigInt(`0x${asked?.[2]}`);
    const stream = { session, sentLsn: startLsn };
    session.send(COPY_BOTH);
    this.#streams.add(stream);
    try {
      this.#sendWal(stream);
      for (;;) {
        const { type, body } = await session.next();
        if (type === 'c') break;
        if (type === 'd' && body[0] === 0x72) this.statuses.push(readStatus(body));
      }
    } finally {
      this.#streams.delete(stream);
    }
    if (this.part.silentAt === 'copy-done') return;
    session.send(COPY_DONE, complete('START_STREAMING'), complete('START_REPLICATION'), READY);
    const { type } = await session.next();
    if (type === 'X') this.goodbyes += 1;
    session.end();
  }

  #sendWal(stream: { session: ScriptedSession; sentLsn: bigint }): void {
    const { fixture } = this;
    while (stream.sentLsn < fixture.endLsn) {
      const until = stream.sentLsn + BigInt(WAL_MESSAGE_BYTES);
      const endLsn = until < fixture.endLsn ? until : fixture.endLsn;
      const data = fixture.slice(stream.sentLsn, endLsn);
      stream.session.send(walData(stream.sentLsn, data, fixture.endLsn));
      stream.sentLsn = endLsn;
    }
  }
}

function isStart(command: string): boolean {
  return command.startsWith('START_REPLICATION') && !command.endsWith(' TIMELINE 2147483647');
}

function readStatus(body: Buffer): PlayedStatus {
  return {
    write: body.readBigUInt64BE(1),
    flush: body.readBigUInt64BE(9),
    apply: body.readBigUInt64BE(17),
    replyRequested: body[33] === 1,
  };
}

/** The relay under test and what surrounds it. */
export class ProcessRig implements AsyncDisposable {
  readonly upstream: PlayedUpstream;
  readonly directory: string;
  readonly #workspace: Workspace;
  readonly #clients: RawClient[] = [];
  #started: Attempt | null = null;

  private constructor(workspace: Workspace, upstream: PlayedUpstream, directory: string) {
    this.#workspace = workspace;
    this.upstream = upstream;
    this.directory = directory;
  }

  static async open(
    workspace: Workspace,
    name: string,
    fixture: WalFixture = playedWal(300_000),
  ): Promise<ProcessRig> {
    const upstream = await PlayedUpstream.open(fixture);
    return new ProcessRig(workspace, upstream, join(workspace.directory, name));
  }

  get started(): Attempt {
    if (this.#started === null) throw new Error('walcast was not started');
    return this.#started;
  }

  get log(): string {
    return this.started.process.log.join('\n');
  }

  /** Starts walcast; nothing is waited for. */
  async start(options: Partial<AttemptOptions> & { drainTimeout?: string } = {}): Promise<Attempt> {
    const { drainTimeout = '2s', extraYaml = '', ...more } = options;
    this.upstream.statuses.splice(0);
    this.#started = await attempt(this.#workspace, {
      directory: this.directory,
      upstreamPort: this.upstream.port,
      slot: '',
      extraYaml: `drain_timeout: ${drainTimeout}\n${extraYaml}`,
      ...more,
    });
    return this.#started;
  }

  /** Starts walcast and waits until it has everything the upstream has. */
  async startStreaming(
    options: Partial<AttemptOptions> & { drainTimeout?: string } = {},
  ): Promise<void> {
    await this.start(options);
    await this.untilFlushed();
  }

  /** The upstream was told that all it has is on the disk. */
  async untilFlushed(): Promise<void> {
    const { endLsn } = this.upstream.fixture;
    await this.until('everything to be acknowledged', () =>
      this.upstream.statuses.some(({ flush }) => flush === endLsn),
    );
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    try {
      await pollUntil(what, async () => ((await condition()) ? true : null), {
        timeoutMs: 30_000,
      });
    } catch (error) {
      const said = this.#started?.process.log.slice(-8).join('\n') ?? 'nothing';
      throw new Error(`${String(error)}; log:\n${said}`, { cause: error });
    }
  }

  async state(): Promise<unknown> {
    const status = await httpJson(this.started.httpPort, '/api/v1/status').catch(() => null);
    return status?.['state'];
  }

  async untilState(state: string): Promise<void> {
    await this.until(`state ${state}`, async () => (await this.state()) === state);
  }

  /** A client that was let in. */
  async client(parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    const { client } = await RawClient.standby(this.started.port, parameters);
    this.#clients.push(client);
    return client;
  }

  /** A standby that streams from `startLsn` (default: the first byte), and has read nothing yet. */
  async standby(startLsn: bigint = this.upstream.fixture.startLsn): Promise<StreamReader> {
    const client = await this.client();
    client.send(query(`START_REPLICATION ${lsnText(startLsn)} TIMELINE 1`));
    const first = await client.next();
    if (first?.type !== 'W') throw new Error(`no stream but ${String(first?.type)}`);
    return new StreamReader(client, startLsn);
  }

  /** Signals the program itself, also behind a wrapper. */
  async signal(signal: NodeJS.Signals): Promise<void> {
    signalProcess(await programPid(this.started.process), signal);
  }

  /** Waits for the end; how it was, and how long it took from now. SIGKILL follows after `patienceMs`. */
  async ended(patienceMs = 30_000): Promise<{ end: ProcessEnd; ms: number; wasStuck: boolean }> {
    const startMs = systemClock.nowMs();
    let wasStuck = false;
    const timer = systemClock.setTimer(patienceMs, () => {
      wasStuck = true;
      void this.signal('SIGKILL');
    });
    const end = await this.started.process.ended;
    timer.cancel();
    return { end, ms: systemClock.nowMs() - startMs, wasStuck };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    const running = this.#started?.process;
    if (running !== undefined && running.end === null) {
      await this.signal('SIGKILL').catch(() => running.signal('SIGKILL'));
      await running.ended;
    }
    await this.upstream[Symbol.asyncDispose]();
  }
}

/** What a standby says when it has everything up to `lsn` on its disk. */
export function confirm(reader: StreamReader, lsn: bigint): void {
  reader.client.send(statusUpdate(lsn, lsn, lsn));
}

/** `16/B374D848` */
export function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** Writes a token for the HTTP port; the file of it. It stays ours: a secret that another user owns is refused. */
export async function tokenFile(workspace: Workspace): Promise<string> {
  const file = join(workspace.directory, 'token');
  await writeFile(file, `${TOKEN}\n`, { mode: 0o600 });
  return file;
}

/** POST to the HTTP port, with the token. */
export async function post(
  httpPort: number,
  path: string,
): Promise<{ code: number; answer: unknown }> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  return { code: response.status, answer: await response.json() };
}
