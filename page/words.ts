// How figures and states are said on the page. Sizes and times are written as everywhere in walcast.
import { ageText, secondsText, sizeText } from '../src/base/human-text.ts';
import type { FindingJson, SyncJson } from '../src/http/api-types.ts';
import type { Feed } from './feed-machine.ts';
import type { Tone } from './standby-order.ts';

/** What stands where nothing is known. */
export const UNKNOWN: string = '–';

/** Term, text, and how it is to be taken. */
export type Fact = readonly [term: string, text: string, tone?: Tone];

/** `1.2 MB`; a dash when unknown. */
export function bytesWord(bytes: number | null): string {
  return bytes === null ? UNKNOWN : sizeText(bytes);
}

/** `1.2 MB/s`. */
export function rateWord(bytesPerSecond: number | null): string {
  return bytesPerSecond === null ? UNKNOWN : `${sizeText(Math.round(bytesPerSecond))}/s`;
}

/** A lag: `0 s`, `3.4 ms`, `2 min`; from two minutes on without seconds. */
export function lagWord(seconds: number | null): string {
  if (seconds === null) return UNKNOWN;
  if (seconds === 0) return '0 s';
  return seconds < 120 ? secondsText(seconds) : ageText(seconds * 1_000);
}

/** `5 min ago`, from a time as the API writes it to `nowMs`. */
export function agoWord(time: string | null, nowMs: number): string {
  return time === null ? UNKNOWN : `${ageText(nowMs - Date.parse(time))} ago`;
}

/** `1 standby`, `300 standbys`. */
export function countWord(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** The one sentence at the top, and how it is to be taken. */
export interface Headline {
  readonly text: string;
  readonly tone: Tone;
}

/** Of what is the matter, and of whether that is known at all. */
export function headline(feed: Feed): Headline {
  const { state, picture } = feed;
  if (picture === null) {
    switch (state.kind) {
      case 'connecting':
      case 'live':
        return { text: 'Connecting to walcast', tone: 'notice' };
      case 'token':
        return { text: 'A token is needed', tone: 'notice' };
      case 'lost':
        return { text: 'No connection to walcast', tone: 'bad' };
      case 'refused':
        return { text: 'walcast refuses to answer', tone: 'bad' };
    }
  }
  if (state.kind === 'token') return { text: 'A token is needed', tone: 'notice' };
  if (state.kind !== 'live') return { text: 'Connection lost', tone: 'bad' };
  return findingsHeadline(picture.status.findings, picture.status.state);
}

function findingsHeadline(findings: readonly FindingJson[], relayState: string): Headline {
  const count = (severity: FindingJson['severity']): number =>
    findings.filter((finding) => finding.severity === severity).length;
  const [critical, warnings] = [count('critical'), count('warning')];
  const parts = [
    critical > 0 ? `${critical} critical` : '',
    warnings > 0 ? countWord(warnings, 'warning') : '',
  ].filter(Boolean);
  if (parts.length > 0) return { text: parts.join(', '), tone: critical > 0 ? 'bad' : 'notice' };
  return relayState === 'streaming'
    ? { text: 'All is well', tone: 'good' }
    : { text: `walcast is ${relayState}`, tone: 'notice' };
}

/** How current the page is, in a word or two. */
export function freshness({ state, currentAtMs }: Feed, nowMs: number): string {
  if (state.kind === 'live') return 'live';
  return currentAtMs === null ? 'not connected' : `not live, ${ageText(nowMs - currentAtMs)} old`;
}

/** What is known of a connection that is not there, in one sentence; `nowMs` by the clock of the feed. */
export function lossNote({ state, currentAtMs }: Feed, nowMs: number): string {
  switch (state.kind) {
    case 'live':
    case 'token':
      return '';
    case 'connecting':
      return 'Connecting.';
    case 'lost':
    case 'refused': {
      const seconds = Math.max(0, Math.ceil((state.retryAtMs - nowMs) / 1_000));
      const next = seconds === 0 ? 'Trying again.' : `Next attempt in ${seconds} s.`;
      const shown =
        currentAtMs === null
          ? ''
          : ` What is shown here was so ${ageText(nowMs - currentAtMs)} ago.`;
      return `${capital(state.reason)}.${shown} ${next}`;
    }
  }
}

/** With a capital in front. */
export function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}

/** What the policy says, for people. */
export function policyWord(sync: SyncJson): string {
  const names = sync.synchronous_standby_names;
  if (sync.method === null) return 'No policy: walcast’s own disk is enough';
  return names;
}

/** Whether it holds. */
export function policyState(sync: SyncJson): Headline {
  if (sync.method === null) return { text: 'not in use', tone: 'good' };
  const { required_standbys: required, eligible_standbys: eligible } = sync;
  const figures = `${countWord(eligible, 'standby')} of ${required} needed`;
  return sync.satisfied
    ? { text: `satisfied: ${figures}`, tone: 'good' }
    : { text: `not satisfied: ${figures}; commits wait`, tone: 'bad' };
}
