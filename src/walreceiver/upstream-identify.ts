// Who is the upstream? Asks, on one session, for everything that must be known and checked before any WAL flows.
// (walreceiver.c:WalReceiverMain, streamutil.c:RunIdentifySystem, RetrieveWalSegSize)
import { OperationalError } from '../base/errors.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import { parseLsn, INVALID_LSN, PAGE_SIZE } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { majorOfServerVersion, versionFacts } from '../pg/server-version.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { StoredEnd, UpstreamIdentity } from './ports.ts';
import { askRelayPath, refuseCycle } from './relay-path.ts';
import { askSessionKind, requireSessionKind } from './session-attrs.ts';
import { answerOf, invalidAnswer } from './upstream-command.ts';
import type { CommandRunner } from './upstream-command.ts';
import { printable, upstreamError } from './upstream-errors.ts';
import { askHistory, askLineage } from './upstream-history.ts';
import { valueText } from './upstream-query.ts';
import type { ResultSet } from './upstream-query.ts';
import { parseSegmentSize, REMEMBERED_SETTINGS } from './upstream-settings.ts';
import { prepareSlot } from './upstream-slot.ts';
import type { SlotPlan } from './upstream-slot.ts';

const SYSTEM_IDENTIFIER_MAX = (1n << 64n) - 1n;
const TIMELINE_MAX = 2 ** 31 - 1;

/** The identity, and what became of our slot there. */
export interface Identification {
  readonly identity: UpstreamIdentity;
  /** The slot was created by this call. */
  readonly isSlotCreated: boolean;
  /** There is no slot of our name that reserves WAL, and nothing was done about it yet. */
  readonly isSlotMissing: boolean;
  /** Ids of the relays it gets its WAL through, its own first; null when it is no walcast. */
  readonly relayPath: readonly string[] | null;
}

/** What an identification depends on besides the server. */
export interface IdentifyContext {
  /** The kind of server that is followed; `any` when absent. */
  readonly wanted?: TargetSessionAttrs;
  /** What is stored already; null or absent for an empty store. */
  readonly stored?: StoredEnd | null;
  /** What this session was found to be when it was identified before. */
  readonly wasInRecovery?: boolean;
  /** Our own id; a server that gets its WAL from us is refused. */
  readonly relayId?: string;
}

/**
 * Identifies the server; nothing is changed on one that is not of the wanted kind. Rejects with
 * {@link OperationalError}: not retryable when no later try can succeed (`UNSUPPORTED_SERVER_VERSION`,
 * `UNSUPPORTED_WAL_BLOCK_SIZE`), retryable for everything else.
 */
export async function identifyUpstream(
  runner: CommandRunner,
  slot: SlotPlan | null,
  context: IdentifyContext = {},
): Promise<Identification> {
  const { wanted = 'any', stored = null, wasInRecovery, relayId } = context;
  const serverVersion = runner.parameters.get('server_version') ?? '';
  const facts = factsOf(serverVersion);
  const [settings, relayPath] = await Promise.all([askSettings(runner), askRelayPath(runner)]);
  const kind = await askSessionKind(runner, settings, wasInRecovery);
  requireSessionKind(wanted, kind);
  if (relayId !== undefined) refuseCycle(relayId, relayPath);
  requireBlockSize(settings.get('wal_block_size'));
  const segmentSize = parseSegmentSize(settings.get('wal_segment_size') ?? '');
  const system = readIdentifySystem(await answerOf(runner, 'IDENTIFY_SYSTEM'));
  const newest = await askHistory(runner, system.timeline);
  const histories = stored === null ? new Map() : await askLineage(runner, newest, stored.timeline);
  const mayHaveLost =
    stored !== null && !kind.isInRecovery && system.xlogPos < leastPosition(stored, newest.history);
  const isRelay = mayHaveLost && (await isWalcast(runner));
  const prepared =
    slot === null
      ? { restartLsn: INVALID_LSN, isCreated: false, isMissing: false }
      : await prepareSlot(runner, facts, slot);
  return {
    identity: {
      ...system,
      serverVersion,
      facts,
      isInRecovery: kind.isInRecovery,
      isRelay,
      segmentSize,
      parameters: runner.parameters.toMap(),
      settings,
      history: newest.history,
      historyFile: newest.file,
      histories,
      slotRestartLsn: prepared.restartLsn,
    },
    isSlotCreated: prepared.isCreated,
    isSlotMissing: prepared.isMissing,
    relayPath,
  };
}

/** Where a primary is at least: at our end on our timeline, else where its own one begins. */
function leastPosition(stored: StoredEnd, history: TimelineHistory): Lsn {
  if (history.timeline === stored.timeline) return stored.receivedLsn;
  return history.ancestors.at(-1)?.endLsn ?? INVALID_LSN;
}

function factsOf(serverVersion: string): VersionFacts {
  const major = majorOfServerVersion(serverVersion);
  // It is shown in many places, on terminals too.
  const isShowable = printable(serverVersion) === serverVersion;
  if (major === null || !isShowable)
    throw invalidAnswer('the login', `server_version "${serverVersion}"`);
  return versionFacts(major);
}

/** A longer value is not remembered: that of synchronous_standby_names may be as long as a server likes. */
const UPSTREAM_SETTING_CHARACTERS_MAX = 16_384;

/** All SHOWs are sent at once, with the question for relays: one round trip, however far away the server is. */
async function askSettings(runner: CommandRunner): Promise<ReadonlyMap<string, string>> {
  const outcomes = await Promise.all(REMEMBERED_SETTINGS.map((name) => runner.run(`SHOW ${name}`)));
  const settings = new Map<string, string>();
  for (const [index, outcome] of outcomes.entries()) {
    const name = REMEMBERED_SETTINGS[index] ?? '';
    if (outcome.error !== null && outcome.error.sqlstate !== SQLSTATE.undefinedObject) {
      throw upstreamError(`the upstream refused SHOW ${name}`, outcome.error);
    }
    const value = valueText(outcome.results[0]?.rows[0]?.[0]);
    const isShort = value !== null && value.length <= UPSTREAM_SETTING_CHARACTERS_MAX;
    if (outcome.error === null && isShort) settings.set(name, value);
  }
  return settings;
}

/** A PostgreSQL server has no such setting, and says so in its log; so this is asked where it matters only. */
async function isWalcast(runner: CommandRunner): Promise<boolean> {
  const { error } = await runner.run('SHOW walcast_version');
  return error === null;
}

function requireBlockSize(value: string | undefined): void {
  if (value === String(PAGE_SIZE)) return;
  throw new OperationalError(
    'UNSUPPORTED_WAL_BLOCK_SIZE',
    `the upstream's wal_block_size is ${printable(value ?? 'unknown')}; walcast reads WAL pages of ${PAGE_SIZE} bytes only`,
    { hint: 'A server built with another --with-wal-blocksize cannot be relayed.' },
  );
}

/** Who a server is, and where. Throws {@link OperationalError} `INVALID_UPSTREAM_ANSWER`. */
export function readIdentifySystem(
  answer: ResultSet | null,
): Pick<UpstreamIdentity, 'systemIdentifier' | 'timeline' | 'xlogPos'> {
  const row = answer?.rows[0];
  if (answer?.rows.length !== 1 || row === undefined || row.length < 3) {
    throw invalidAnswer(
      'IDENTIFY_SYSTEM',
      `${answer?.rows.length ?? 0} rows of ${row?.length ?? 0} columns, expected 1 row of 3 or more`,
    );
  }
  const [systemIdentifier, timeline, xlogPos] = row.slice(0, 3).map((value) => valueText(value));
  return {
    systemIdentifier: readSystemIdentifier(systemIdentifier ?? null),
    timeline: readTimeline(timeline ?? null),
    xlogPos: readPosition(xlogPos ?? null),
  };
}

function readSystemIdentifier(text: string | null): string {
  if (text !== null && /^\d{1,20}$/.test(text) && BigInt(text) <= SYSTEM_IDENTIFIER_MAX) {
    return BigInt(text).toString();
  }
  throw invalidAnswer('IDENTIFY_SYSTEM', `systemid ${text ?? 'NULL'}`);
}

function readTimeline(text: string | null): TimelineId {
  const value = text !== null && /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= TIMELINE_MAX) return toTimelineId(value);
  throw invalidAnswer('IDENTIFY_SYSTEM', `timeline ${text ?? 'NULL'}`);
}

function readPosition(text: string | null): Lsn {
  const lsn = text === null ? null : parseLsn(text);
  if (lsn !== null && lsn !== INVALID_LSN) return lsn;
  throw invalidAnswer('IDENTIFY_SYSTEM', `xlogpos ${text ?? 'NULL'}`);
}
