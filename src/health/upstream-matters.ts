// What is wrong between walcast and its upstream, and with the relay as a whole?
import { ageText, sizeText } from '../base/human-text.ts';
import { DISCOVERY_OLD_MS, UPSTREAM_BEHIND_BYTES, UPSTREAM_SILENT_MS } from '../config/limits.ts';
import { INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import { isReceivingWal } from '../status/status.ts';
import type { LeftSlotStatus, RelayState, RelayStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';
import { finding, told, withoutStop } from './told.ts';

/** Of the process, of the stream from the upstream, of where the upstream is looked for. */
export function upstreamMatters(status: RelayStatus, nowMs: number): Finding[] {
  return [
    ...processMatters(status),
    ...streamMatters(status, nowMs),
    ...discoveryMatters(status, nowMs),
    ...leftSlotMatters(status),
  ];
}

function processMatters(status: RelayStatus): Finding[] {
  const found: Finding[] = [];
  const add = (parts: Omit<Finding, 'subject'>): number =>
    found.push(finding({ subject: null, ...parts }));
  // A session to the upstream that failed for good is told where its stream is looked at.
  if (status.state === 'failed' && status.upstream.heldState !== 'failed') {
    add({
      code: 'failed',
      severity: 'critical',
      message: withoutStop(
        status.detail ?? 'something failed for good, and nothing more is acknowledged',
      ),
      nextStep:
        'Read its log, put right what it names, and start it again: what was acknowledged is on the disk.',
      alert: 'WalcastStoreErrors',
    });
  }
  if (status.isDraining) {
    add({
      code: 'draining',
      severity: 'warning',
      message:
        'a drain is under way: no new sessions are taken, and walcast ends when its standbys have everything',
      nextStep:
        'Nothing, if you asked for it; standbys go on with the next host of their primary_conninfo.',
      alert: null,
    });
  }
  if (status.isPaused) {
    add({
      code: 'paused',
      severity: 'warning',
      message: 'a pause is on: no new replication is started; streams that run go on',
      nextStep:
        'Resume it with RESUME in the console or POST /api/v1/resume when standbys may come back.',
      alert: null,
    });
  }
  return found;
}

/** What to do in a state in which the upstream cannot be followed. */
const HELD: Partial<
  Record<
    RelayState,
    { readonly message: string; readonly nextStep: string; readonly alert: string }
  >
> = {
  full: {
    message: 'the disk takes no more WAL',
    nextStep:
      'Free space in storage.directory, or drop the slot that keeps most; walcast then goes on by itself.',
    alert: 'WalcastStoreFilling',
  },
  gap: {
    message: 'the upstream no longer has the WAL that comes next',
    nextStep:
      'Bring it from an archive with "walcast store import", or begin anew with "walcast store reset" and seed the standbys.',
    alert: 'WalcastUpstreamDisconnected',
  },
  diverged: {
    message: 'the upstream is of another history than what is stored',
    nextStep:
      'Find out which of the two is right; point upstream.conninfo at the right server, or begin anew with "walcast store reset".',
    alert: 'WalcastUpstreamDisconnected',
  },
  corrupt: {
    message: 'the upstream sends WAL that fails its checks',
    nextStep:
      'Look for a damaged network path or upstream, and run pg_waldump there; nothing of it is kept or forwarded.',
    alert: 'WalcastUpstreamDisconnected',
  },
  failed: {
    message: 'the upstream refuses walcast',
    nextStep:
      'Run "walcast check --deep": it tells what the server refuses, and which setting is meant.',
    alert: 'WalcastUpstreamDisconnected',
  },
};

function streamMatters(status: RelayStatus, nowMs: number): Finding[] {
  const { upstream, detail } = status;
  // It ends its stream itself then.
  if (status.isDraining || (status.state === 'failed' && upstream.heldState === null)) return [];
  const held = upstream.heldState === null ? undefined : HELD[upstream.heldState];
  if (held !== undefined) {
    const message = withoutStop(detail ?? upstream.detail ?? held.message);
    const code = `upstream_${upstream.heldState}`;
    return [finding({ ...held, code, severity: 'critical', subject: hostOf(status), message })];
  }
  if (!isReceivingWal(upstream)) return [notStreaming(status, nowMs)];
  const silentMs = nowMs - (upstream.lastMessageAtMs ?? status.startedAtMs);
  const found = behind(status);
  if (silentMs < UPSTREAM_SILENT_MS) return found;
  return [
    finding({
      code: 'upstream_silent',
      severity: 'critical',
      subject: hostOf(status),
      message: `nothing has come from the upstream for ${ageText(silentMs)}, although it is connected`,
      nextStep: 'Look whether the server is stopped and whether the network between drops packets.',
      alert: 'WalcastUpstreamStalled',
    }),
    ...found,
  ];
}

/** Who refuses us again and again says something each time: what counts is since when nothing has streamed. */
function notStreaming(status: RelayStatus, nowMs: number): Finding {
  const { upstream } = status;
  const awayMs = nowMs - (upstream.lastStreamedAtMs ?? status.startedAtMs);
  const isWaiting = upstream.heldState === 'waiting';
  const why = upstream.detail === null ? '' : `: ${withoutStop(upstream.detail)}`;
  return finding({
    code: isWaiting ? 'upstream_waiting' : 'upstream_disconnected',
    severity: awayMs >= UPSTREAM_SILENT_MS ? 'critical' : 'warning',
    subject: hostOf(status),
    message: `${notStreamingText(status)}, and nothing has streamed for ${ageText(awayMs)}${why}`,
    nextStep: notStreamingStep(status),
    alert: 'WalcastUpstreamDisconnected',
  });
}

function notStreamingText({ state, upstream }: RelayStatus): string {
  if (upstream.heldState === 'waiting') return 'the upstream does not have the WAL that comes next';
  if (state === 'starting') return 'walcast is starting and has not called its upstream yet';
  return 'there is no connection to the upstream';
}

function notStreamingStep({ state, upstream }: RelayStatus): string {
  if (upstream.heldState === 'waiting') {
    return 'Look whether the upstream is the right server and goes on receiving; if it lost WAL for good, see "walcast store reset".';
  }
  return state === 'starting'
    ? 'Wait a moment; if it lasts, read its log for what it waits for.'
    : 'Look whether the server runs and can be reached: "walcast check --deep" tells which step fails.';
}

function behind(status: RelayStatus): Finding[] {
  const { store, upstream } = status;
  if (store.flushedLsn === INVALID_LSN || upstream.serverLsn <= store.flushedLsn) return [];
  const bytes = lsnDistance(store.flushedLsn, upstream.serverLsn);
  if (bytes < UPSTREAM_BEHIND_BYTES) return [];
  return [
    finding({
      code: 'upstream_behind',
      severity: 'warning',
      subject: hostOf(status),
      message: `what is stored is ${sizeText(bytes)} behind the upstream, and so is every standby`,
      nextStep:
        'Wait if it catches up; else compare the WAL that is written with what the network and the disk of walcast take.',
      alert: 'WalcastFallingBehind',
    }),
  ];
}

function discoveryMatters({ upstream, startedAtMs }: RelayStatus, nowMs: number): Finding[] {
  const { discovery } = upstream;
  if (discovery === null || discovery.lastError === null) return [];
  const oldMs = nowMs - (discovery.lastAnswerAtMs ?? startedAtMs);
  if (oldMs < DISCOVERY_OLD_MS) return [];
  return [
    finding({
      code: 'discovery_silent',
      severity: 'warning',
      subject: discovery.scope,
      message: `Patroni has not said for ${ageText(oldMs)} which servers there are: ${withoutStop(discovery.lastError)}`,
      nextStep:
        'Look whether the URLs of upstream.discovery answer; until then walcast follows the servers it knew last.',
      alert: null,
    }),
  ];
}

function leftSlotMatters({ upstream }: RelayStatus): Finding[] {
  const tell = (
    isOurs: boolean,
    parts: { severity: Finding['severity']; nextStep: (left: LeftSlotStatus) => string },
  ): Finding[] =>
    told({
      code: 'left_slot',
      alert: null,
      of: upstream.leftSlots.filter((left) => left.isOurs === isOurs),
      subject: ({ host, port }) => `${host}:${port}`,
      message: ({ host, port, slot }) =>
        `a server that is not followed any more, ${host}:${port}, keeps all WAL for slot "${slot}"`,
      others: 'servers keep WAL for a slot that walcast left',
      ...parts,
    });
  return [
    ...tell(false, {
      severity: 'warning',
      nextStep: ({ slot }) =>
        `Drop it there when nobody needs it: SELECT pg_drop_replication_slot('${slot}').`,
    }),
    ...tell(true, {
      severity: 'info',
      nextStep: () => 'Nothing: walcast drops it as soon as that server can be reached.',
    }),
  ];
}

function hostOf({ upstream }: RelayStatus): string | null {
  return upstream.host === null ? null : `${upstream.host}:${upstream.port ?? '?'}`;
}
