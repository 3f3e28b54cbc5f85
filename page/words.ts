// How figures and states are said on the page. Sizes and times are written as everywhere in walcast.
import { ageText, secondsText, sizeText } from '../src/base/human-text.ts';
import type { FindingJson, SyncJson } from '../src/http/api-types.ts';
import { isCurrent, QUIET_MS_MAX } from './feed-machine.ts';
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

/** Of what is the matter, and of whether that is known at all; `nowMs` by the clock of the feed. */
export function headline(feed: Feed, nowMs: number): Headline {
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
  if (!isCurrent(feed, nowMs)) return { text: 'Nothing heard of walcast', tone: 'notice' };
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
export function freshness({ state, currentAtMs, heardAtMs }: Feed, nowMs: number): string {
  if (state.kind === 'live') {
    const silentMs = heardAtMs === null ? 0 : nowMs - heardAtMs;
    return silentMs > QUIET_MS_MAX ? `nothing heard for ${ageText(silentMs)}` : 'live';
  }
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
      return `${sentence(state.reason)}${shown} ${next}`;
    }
  }
}

/** As a sentence of its own: a question mark is an end, too. */
export function sentence(text: string): string {
  return /[.?!…]$/.test(text) ? capital(text) : `${capital(text)}.`;
}

/**
 * Text that others chose, with what cannot be seen of it written out: control characters, and those that turn the direction
 * of what stands around them.
 */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => {
    const code = character.charCodeAt(0);
    return code < 256
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** Cc but tabs and line ends, which a browser shows as a space; marks, embeddings, overrides and isolates of direction; ZWSP. */
const UNSEEN =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;

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

/** What may be said of commits while the policy does not hold: they wait only where the upstream asks walcast. */
function waitingText({ upstream }: SyncJson): string {
  if (upstream === null) return '; commits that wait for walcast stand still';
  const isAsked = upstream.synchronous_standby_names !== '' && upstream.membership !== 'none';
  return isAsked ? '; commits that wait for walcast stand still' : '; no commit waits for walcast';
}

/** Whether it holds. */
export function policyState(sync: SyncJson): Headline {
  if (sync.method === null) return { text: 'not in use', tone: 'good' };
  const { required_standbys: required, eligible_standbys: eligible } = sync;
  const figures = `${required} needed, ${eligible} there`;
  return sync.satisfied
    ? { text: `satisfied: ${figures}`, tone: 'good' }
    : { text: `not satisfied: ${figures}${waitingText(sync)}`, tone: 'bad' };
}
