// What do walcast and those who know say at the same time? Looks are taken one after the other: first at the primary's and the
// standbys' own views, then at everything in which walcast shows the same.
import { Client } from 'pg';
import { systemClock } from '../../src/base/clock.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import type {
  SlotJson,
  StandbyJson,
  StatusJson,
  StoreDetailJson,
  UpstreamDetailJson,
} from '../../src/http/api-types.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { SnapshotJson } from '../../src/http/event-types.ts';
import { EventPicture } from './event-picture.ts';
import { parseExposition } from './exposition.ts';
import type { Exposition } from './exposition.ts';
import { lsnOf } from './values-rig.ts';
import type { ValuesRig } from './values-rig.ts';

/** What a primary says of itself, and of walcast. LSNs are null where the view has NULL. */
export interface PrimaryWitness {
  /** End (exclusive) of what it has flushed, and may have sent. */
  readonly endLsn: Lsn;
  /** Its walsender for walcast; null while there is none. */
  readonly sender: {
    readonly state: string;
    readonly sentLsn: Lsn | null;
    readonly writeLsn: Lsn | null;
    readonly flushLsn: Lsn | null;
    readonly replayLsn: Lsn | null;
    readonly replyTimeMs: number | null;
  } | null;
  /** Of walcast's slot there. */
  readonly slotRestartLsn: Lsn | null;
}

/** What a standby says of itself. */
export interface StandbyWitness {
  readonly replayLsn: Lsn | null;
  /** When the last transaction was committed that it has replayed, Unix milliseconds. */
  readonly replayedCommitMs: number | null;
  /** Its walreceiver; null while there is none. */
  readonly receiver: {
    readonly pid: number;
    readonly status: string;
    readonly writtenLsn: Lsn | null;
    readonly flushedLsn: Lsn | null;
    readonly timeline: number;
    readonly slot: string;
  } | null;
}

/** Rows of the console by column name; NULL is null. */
export type ConsoleRows = readonly Readonly<Record<string, string | null>>[];

/** Everything in which walcast shows it. */
export interface RelayViews {
  readonly status: StatusJson;
  readonly upstream: UpstreamDetailJson;
  readonly store: StoreDetailJson;
  readonly slots: readonly SlotJson[];
  readonly metrics: Exposition;
  readonly replication: ConsoleRows;
  readonly slotRows: ConsoleRows;
  readonly receiverRows: ConsoleRows;
  /** What a listener to the events has; null before the first of them. */
  readonly events: SnapshotJson | null;
}

/** One round. Times are Unix milliseconds by the machine's clock, which all of them share. */
export interface Look {
  readonly witnessFromMs: number;
  readonly witnessUntilMs: number;
  readonly primary: PrimaryWitness | null;
  readonly standbys: ReadonlyMap<string, StandbyWitness>;
  /** When walcast was asked, and when all of it had answered. */
  readonly askedMs: number;
  readonly answeredMs: number;
  /** Null while walcast does not answer. */
  readonly views: RelayViews | null;
}

/** Who looks all the time takes the machine from those who are looked at. */
const LOOK_PAUSE_MS = 50;

const PRIMARY_SQL = `
  SELECT pg_current_wal_flush_lsn(), r.pid, r.state, r.sent_lsn, r.write_lsn, r.flush_lsn, r.replay_lsn,
    1000 * extract(epoch FROM r.reply_time), s.restart_lsn
  FROM (SELECT 1) one LEFT JOIN pg_stat_replication r ON r.application_name = 'walcast'
    LEFT JOIN pg_replication_slots s ON s.slot_name = 'walcast'`;

const STANDBY_SQL = `
  SELECT pg_last_wal_replay_lsn(), 1000 * extract(epoch FROM pg_last_xact_replay_timestamp()),
    r.pid, r.status, r.written_lsn, r.flushed_lsn, r.received_tli, r.slot_name
  FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON r.pid IS NOT NULL`;

/** Who looks: one session with everybody, made anew when it has ended. */
export class Looker implements AsyncDisposable {
  readonly #rig: ValuesRig;
  readonly #sessions = new Map<string, SqlSession>();
  readonly #events: EventPicture;
  #console: Client | null = null;
  #consoleStart = 0;

  constructor(rig: ValuesRig) {
    this.#rig = rig;
    this.#events = new EventPicture(rig.relay.url);
  }

  /** One round. */
  async look(): Promise<Look> {
    const witnessFromMs = systemClock.wallMs();
    const [primary, ...standbys] = await Promise.all([
      this.#primary(),
      ...[...this.#rig.standbys.keys()].map(
        async (name) => [name, await this.#standby(name)] as const,
      ),
    ]);
    const witnessUntilMs = systemClock.wallMs();
    const askedMs = systemClock.wallMs();
    const views = await this.#views();
    return {
      witnessFromMs,
      witnessUntilMs,
      primary,
      standbys: new Map(
        standbys.flatMap(([name, said]) => (said === null ? [] : [[name, said] as const])),
      ),
      askedMs,
      answeredMs: systemClock.wallMs(),
      views,
    };
  }

  /** One round in which walcast is not asked: the witnesses' last word. */
  async lookAtWitnesses(): Promise<Look> {
    return { ...(await this.look()), views: null };
  }

  /** The rows of a command of the console, each value as text. */
  async console(sql: string): Promise<ConsoleRows> {
    this.#console ??= await openConsole(this.#rig);
    return (await this.#console.query(sql)).rows as ConsoleRows;
  }

  /** Looks again and again until `durationMs` have passed. */
  async watch(durationMs: number): Promise<Look[]> {
    const untilMs = systemClock.nowMs() + durationMs;
    const looks: Look[] = [];
    while (systemClock.nowMs() < untilMs) {
      looks.push(await this.look());
      await new Promise<void>((resolve) => systemClock.setTimer(LOOK_PAUSE_MS, resolve));
    }
    return looks;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions.values()) session.close();
    await this.#console?.end().catch(() => {});
    await this.#events[Symbol.asyncDispose]();
  }

  async #primary(): Promise<PrimaryWitness | null> {
    const row = await this.#row(this.#rig.primary.name, PRIMARY_SQL, () =>
      this.#rig.primary.session(),
    );
    const [end, pid, state = '', sent, write, flush, replay, replyTime, restart] = row ?? [];
    const endLsn = lsnOf(end);
    if (endLsn === null) return null;
    const sender =
      pid === ''
        ? null
        : {
            state,
            sentLsn: lsnOf(sent),
            writeLsn: lsnOf(write),
            flushLsn: lsnOf(flush),
            replayLsn: lsnOf(replay),
            replyTimeMs: numberOf(replyTime),
          };
    return { endLsn, sender, slotRestartLsn: lsnOf(restart) };
  }

  async #standby(name: string): Promise<StandbyWitness | null> {
    const standby = this.#rig.standby(name);
    const row = standby.isRunning
      ? await this.#row(name, STANDBY_SQL, () => standby.session())
      : null;
    if (row === null) return null;
    const [replay, committed, pid, status = '', written, flushed, timeline, slot = ''] = row;
    const receiver =
      pid === '' || pid === undefined
        ? null
        : {
            pid: Number(pid),
            status,
            writtenLsn: lsnOf(written),
            flushedLsn: lsnOf(flushed),
            timeline: Number(timeline),
            slot,
          };
    return { replayLsn: lsnOf(replay), replayedCommitMs: numberOf(committed), receiver };
  }

  /** Null where it cannot be asked: it starts, it is gone. */
  async #row(
    name: string,
    sql: string,
    connect: () => Promise<SqlSession>,
  ): Promise<readonly string[] | null> {
    try {
      const session = this.#sessions.get(name) ?? (await connect());
      this.#sessions.set(name, session);
      const rows = await session.query(sql);
      return rows[0] ?? null;
    } catch {
      this.#sessions.get(name)?.close();
      this.#sessions.delete(name);
      return null;
    }
  }

  async #views(): Promise<RelayViews | null> {
    const { relay } = this.#rig;
    const { starts } = relay;
    // The session with a process that has been killed.
    if (starts !== this.#consoleStart) this.#console = null;
    this.#consoleStart = starts;
    try {
      const [status, upstream, store, slots, text, consoleRows] = await Promise.all([
        relay.status(),
        relay.get('/api/v1/upstream'),
        relay.get('/api/v1/store'),
        relay.get('/api/v1/slots'),
        relay.metrics(),
        this.#consoleRows(),
      ]);
      return {
        status,
        upstream: upstream as UpstreamDetailJson,
        store: store as StoreDetailJson,
        slots: slots as readonly SlotJson[],
        metrics: parseExposition(text),
        ...consoleRows,
        events: this.#events.picture,
      };
    } catch (error) {
      this.#console = null;
      if (isRefusal(error) || !relay.isRunning || relay.starts !== starts) return null;
      throw error;
    }
  }

  async #consoleRows(): Promise<Pick<RelayViews, 'replication' | 'slotRows' | 'receiverRows'>> {
    const client = this.#console ?? (await openConsole(this.#rig));
    this.#console = client;
    const rows = async (view: string): Promise<ConsoleRows> =>
      (await client.query(`SELECT * FROM ${view}`)).rows as ConsoleRows;
    // One connection: one question after the other.
    const replication = await rows('pg_stat_replication');
    const slotRows = await rows('pg_replication_slots');
    const receiverRows = await rows('pg_stat_wal_receiver');
    return { replication, slotRows, receiverRows };
  }
}

/** A session of the console whose values are the text that walcast sent. */
export async function openConsole({ relay }: ValuesRig): Promise<Client> {
  const client = new Client({
    host: relay.host,
    port: relay.port,
    user: 'ops',
    database: 'walcast',
    types: { getTypeParser: () => (text: unknown) => text },
  });
  client.on('error', () => {});
  await client.connect();
  return client;
}

/** The standby of that name in an answer; null while there is none. */
export function standbyIn(views: RelayViews, name: string): StandbyJson | null {
  return views.status.standbys.find((one) => one.application_name === name) ?? null;
}

/** What walcast said last. Throws when it never answered. */
export function lastViews(looks: readonly Look[]): RelayViews {
  const views = looks.findLast((look) => look.views !== null)?.views ?? null;
  if (views === null) throw new Error('walcast never answered');
  return views;
}

function numberOf(text: string | undefined): number | null {
  return text === undefined || text === '' ? null : Number(text);
}

/** Nobody listens, or the connection ended: walcast starts or stops. */
function isRefusal(error: unknown): boolean {
  const text = error instanceof Error ? `${String(error.cause)} ${String(error)}` : '';
  return /ECONNREFUSED|ECONNRESET|terminated|57P0|closed|socket|starting/i.test(text);
}
