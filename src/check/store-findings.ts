// Does the WAL in our store belong to the server that is to be followed? Pure; by the rules of the gate.
import { formatLsn, INVALID_LSN, parseLsn } from '../pg/lsn.ts';
import { decideFollow } from '../relay/upstream-gate.ts';
import type { ControlState } from '../wal/control-file.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';
import type { HostProbe } from './host-probe.ts';

/** What the gate would say to each host that told who it is. */
export function storeFindings(
  control: ControlState,
  probes: readonly HostProbe[],
  directory: string,
): Finding[] {
  return probes.flatMap((probe) => {
    const refusal = followFinding(control, probe, directory);
    return refusal === null ? gapFindings(control, probe, directory) : [refusal];
  });
}

function followFinding(
  control: ControlState,
  { subject: server, identity }: HostProbe,
  directory: string,
): Finding | null {
  if (identity === null) return null;
  const { lsn } = control.durableMark;
  const decision = decideFollow(
    {
      systemIdentifier: control.systemIdentifier,
      major: control.major,
      segmentSize: control.segmentSize,
      timeline: control.timeline,
      history: null,
      oldestLsn: control.firstLsn,
      nextLsn: lsn,
      receivedLsn: lsn,
      isFull: false,
    },
    identity,
  );
  if (decision.kind !== 'hold') return null;
  const code = codeOf(control, identity);
  const { what, fix } = sentencesOf(decision.detail);
  const text = { subject: directory, message: `${server}: ${what}`, fix };
  // A standby that is behind catches up by itself.
  if (decision.state === 'waiting') return warningFinding(code, text);
  return errorFinding(code, text);
}

/** The gate says in its first sentence what is, in the others what to do. */
function sentencesOf(detail: string): { what: string; fix: string | null } {
  const [, what, fix] = /^(.*?)\. ([A-Z].*)$/s.exec(detail) ?? [];
  return { what: what ?? detail, fix: fix ?? null };
}

function codeOf(control: ControlState, identity: NonNullable<HostProbe['identity']>): FindingCode {
  if (control.systemIdentifier !== identity.systemIdentifier) return 'storage.system_identifier';
  if (control.major !== identity.facts.major) return 'storage.major';
  if (control.segmentSize !== identity.segmentSize) return 'storage.segment_size';
  return 'storage.timeline';
}

/**
 * The slot on the server says from where on WAL is surely there. Where the store really ends is known from its control
 * file after a clean stop only; else the end is somewhere behind the mark, and the slot cannot be ahead of it.
 */
function gapFindings(
  control: ControlState,
  { subject: server, identity, sql }: HostProbe,
  directory: string,
): Finding[] {
  if (identity === null) return [];
  const restartLsn = parseLsn(sql?.slot?.restartLsn ?? '') ?? INVALID_LSN;
  const { lsn } = control.durableMark;
  if (!control.wasCleanStop || restartLsn === INVALID_LSN || restartLsn <= lsn) {
    return [
      okFinding('storage.timeline', {
        subject: directory,
        message: `${server} is a server of this store's history (timeline ${identity.timeline})`,
      }),
    ];
  }
  return [
    warningFinding('storage.gap', {
      subject: directory,
      message: `the store ends at ${formatLsn(lsn)}, and the slot on ${server} holds WAL from ${formatLsn(restartLsn)} on only: what lies between may be gone`,
      fix: 'If walcast stands in state gap after its start, bring the missing segments from the archive with "walcast store import", or begin anew with "walcast store reset"',
    }),
  ];
}
