// Which servers does Patroni name? Its answer to GET /cluster, understood: strict about what it is, tolerant where versions and
// deployments differ. Pure. (patroni/utils.py:cluster_as_json, of 1.6 to 4.1)
import { DISCOVERY_MEMBERS_MAX, DISCOVERY_TEXT_CHARACTERS_MAX } from '../config/limits.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { printable } from './upstream-errors.ts';

/** `primary` and `standby_leader` hold Patroni's leader lock; the latter leads a cluster that follows another one. */
export type MemberRole = 'primary' | 'standby_leader' | 'standby';

/** One server of the cluster, as Patroni sees it. */
export interface PatroniMember {
  /** Unique in the answer; printable. */
  readonly name: string;
  readonly role: MemberRole;
  /** Patroni's word for it (`running`, `streaming`, `start failed` …), printable; empty when it says nothing. */
  readonly state: string;
  readonly isRunning: boolean;
  /** A name or numeric address; never a directory. */
  readonly host: string;
  readonly port: number;
  readonly timeline: TimelineId | null;
  /** Bytes behind the leader, when Patroni last looked; null for the leader and where it is unknown. */
  readonly lagBytes: number | null;
  /** The member's tag `zone`. */
  readonly zone: string | null;
  /** Its tags ask for as little load as possible (`noloadbalance`), or it does not stream itself (`nostream`). */
  readonly isSpared: boolean;
}

/** One answer. */
export interface PatroniCluster {
  /** Name of the cluster; null from versions before 3. */
  readonly scope: string | null;
  /** In the order of the answer, which is by name; one at least. */
  readonly members: readonly PatroniMember[];
}

/** PostgreSQL's own port, which connect_address may leave out. */
const DEFAULT_PORT = 5432;

const PORT_MAX = 65_535;
const TIMELINE_MAX = 2 ** 31 - 1;

/** Roles of the leader: of `/cluster`, and the words older versions and other addresses of the API use. */
const LEADERS: ReadonlySet<string> = new Set(['leader', 'master', 'primary']);

/** (postgresql/misc.py:PostgresqlState; postgresql/__init__.py:replication_state_from_parameters) */
const RUNNING_STATES: ReadonlySet<string> = new Set([
  'running',
  'streaming',
  'in archive recovery',
]);

/** A DNS name as lenient as resolvers are, or a numeric address; what libpq would take for a socket or a list is none. */
const HOST =
  /^(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)$/;

/**
 * Reads a body. A text is what is wrong with it: it is no answer of Patroni, too long, contradicts itself, or names no server
 * that could be connected to. Members without a usable address are left out; what else is missing or odd in one is unknown.
 */
export function parsePatroniCluster(body: Uint8Array): PatroniCluster | string {
  const answer = parseJson(body);
  if (!isRecord(answer) || !Array.isArray(answer['members'])) {
    return 'the answer is no list of members as GET /cluster gives it';
  }
  const entries: readonly unknown[] = answer['members'];
  if (entries.length > DISCOVERY_MEMBERS_MAX) {
    return `the answer names ${entries.length} members, more than ${DISCOVERY_MEMBERS_MAX}`;
  }
  const names = new Set<string>();
  const members: PatroniMember[] = [];
  for (const entry of entries) {
    const name = isRecord(entry) ? textOf(entry['name']) : null;
    if (!isRecord(entry) || name === null) return 'a member of the answer has no name';
    if (names.has(name)) return `the answer names ${name} twice`;
    names.add(name);
    const member = memberOf(name, entry);
    if (member !== null && !members.some((other) => isSameAddress(other, member))) {
      members.push(member);
    }
  }
  if (members.length === 0) return 'the answer names no member with an address';
  if (members.filter(({ role }) => role !== 'standby').length > 1) {
    return 'the answer names more than one leader';
  }
  return { scope: textOf(answer['scope']), members };
}

/** True for the same place to connect to. */
export function isSameAddress(
  a: { readonly host: string; readonly port: number },
  b: { readonly host: string; readonly port: number },
): boolean {
  return a.host === b.host && a.port === b.port;
}

/** Null without an address that can be connected to. */
function memberOf(name: string, entry: Readonly<Record<string, unknown>>): PatroniMember | null {
  const host = entry['host'];
  const port = entry['port'] ?? DEFAULT_PORT;
  if (typeof host !== 'string' || host.length > DISCOVERY_TEXT_CHARACTERS_MAX) return null;
  if (!HOST.test(host) || !isWhole(port, 1, PORT_MAX)) return null;
  const { timeline, lag } = entry;
  const tags = isRecord(entry['tags']) ? entry['tags'] : {};
  const state = textOf(entry['state']) ?? '';
  return {
    name,
    role: roleOf(entry['role']),
    state,
    isRunning: RUNNING_STATES.has(state),
    host,
    port,
    timeline: isWhole(timeline, 1, TIMELINE_MAX) ? toTimelineId(timeline) : null,
    lagBytes: isWhole(lag, 0, Number.MAX_SAFE_INTEGER) ? lag : null,
    zone: zoneOf(tags['zone']),
    isSpared: tags['noloadbalance'] === true || tags['nostream'] === true,
  };
}

/** Whoever is not said to lead follows: replica, sync_standby, quorum_standby, and words of versions to come. */
function roleOf(role: unknown): MemberRole {
  if (role === 'standby_leader') return 'standby_leader';
  return typeof role === 'string' && LEADERS.has(role) ? 'primary' : 'standby';
}

/** A tag is written in YAML, where a zone may look like a number. */
function zoneOf(value: unknown): string | null {
  return typeof value === 'number' ? String(value) : textOf(value);
}

/** Printable and not empty; null for anything else, and for what is too long. */
function textOf(value: unknown): string | null {
  if (typeof value !== 'string' || value === '') return null;
  return value.length > DISCOVERY_TEXT_CHARACTERS_MAX ? null : printable(value);
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return null;
  }
}
