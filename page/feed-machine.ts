// What state is the connection to walcast in, and what is to be done next? Pure: answers, events and time go in.
import type { ChangeJson, SnapshotJson } from '../src/http/event-types.ts';
import { changedPicture, pictureOf } from './picture.ts';
import type { Picture } from './picture.ts';
import type { StreamEvent } from './sse.ts';

/** How it stands with the connection. */
export type FeedState =
  /** The first attempt of this page, or of a token. */
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  /** Tried again at `retryAtMs`; `reason` is a sentence without its full stop. */
  | { readonly kind: 'lost'; readonly reason: string; readonly retryAtMs: number }
  /** walcast wants a token; `reason` says why the one that was shown is not taken, null when none was. */
  | { readonly kind: 'token'; readonly reason: string | null }
  /** Nothing that this page could do helps; tried again all the same. */
  | { readonly kind: 'refused'; readonly reason: string; readonly retryAtMs: number };

/** Everything the feed knows. Times are milliseconds of one clock that only goes forward. */
export interface Feed {
  readonly state: FeedState;
  /** Null until the first snapshot; kept while the connection is lost. */
  readonly picture: Picture | null;
  /** When an attempt began, or the last bytes came in; null before any. */
  readonly heardAtMs: number | null;
  /** Up to when the picture is known to have been current; null while there is none. */
  readonly currentAtMs: number | null;
  /** Attempts since the last event. */
  readonly failures: number;
}

/** First and longest wait between attempts, milliseconds. */
export const RETRY_MS_MIN: number = 1_000;
export const RETRY_MS_MAX: number = 10_000;

/** A stream that says nothing for so long is dead, milliseconds: walcast says something every 15 seconds. */
export const SILENCE_MS_MAX: number = 35_000;

/** Longer than any silence of a stream that is well: from then on what is shown may be of the past, milliseconds. */
export const QUIET_MS_MAX: number = 20_000;

/** Before anything is asked. */
export const NEW_FEED: Feed = {
  state: { kind: 'connecting' },
  picture: null,
  heardAtMs: null,
  currentAtMs: null,
  failures: 0,
};

/** Bytes came in, whatever they were: comments keep a stream alive, and say that nothing has changed. */
export function heard(feed: Feed, nowMs: number): Feed {
  const currentAtMs = feed.state.kind === 'live' ? nowMs : feed.currentAtMs;
  return { ...feed, heardAtMs: nowMs, currentAtMs };
}

/** An event of the stream. Throws {@link SyntaxError} for data that is no JSON. */
export function afterEvent(feed: Feed, event: StreamEvent, nowMs: number): Feed {
  switch (event.name) {
    case 'snapshot':
      return live(feed, pictureOf(parse<SnapshotJson>(event.data)), nowMs);
    case 'change':
      // Without a snapshot there is nothing that a change could be one of.
      if (feed.picture === null || feed.state.kind !== 'live') return feed;
      return live(feed, changedPicture(feed.picture, parse<ChangeJson>(event.data)), nowMs);
    case 'end':
      return afterLoss(feed, endReason(event.data), nowMs);
    default:
      return feed;
  }
}

function live(feed: Feed, picture: Picture, nowMs: number): Feed {
  return { ...feed, state: { kind: 'live' }, picture, currentAtMs: nowMs, failures: 0 };
}

/** The stream ended, or there was none. */
export function afterLoss(feed: Feed, reason: string, nowMs: number): Feed {
  // A reason that was told is better than that of the end that follows it.
  if (feed.state.kind === 'lost' && nowMs < feed.state.retryAtMs) return feed;
  const retryAtMs = nowMs + retryDelayMs(feed.failures);
  return { ...feed, state: { kind: 'lost', reason, retryAtMs }, failures: feed.failures + 1 };
}

/** An attempt begins. What is said stays as it is until it is known how it ends. */
export function attempting(feed: Feed, nowMs: number): Feed {
  const isFirst = feed.picture === null && feed.failures === 0;
  return { ...feed, state: isFirst ? { kind: 'connecting' } : feed.state, heardAtMs: nowMs };
}

/** An answer that is no stream. `hasToken`: one was shown. */
export function afterRefusal(
  feed: Feed,
  answer: { readonly status: number; readonly detail: string | null; readonly hasToken: boolean },
  nowMs: number,
): Feed {
  const { status, detail, hasToken } = answer;
  if (status === 401) {
    const reason = hasToken ? (detail ?? 'the token is wrong') : null;
    return { ...feed, state: { kind: 'token', reason }, failures: 0 };
  }
  // A token that was good is shown again by itself: others at this address may have typed the wrong ones.
  if (status === 429 && (feed.picture === null || !hasToken)) {
    return { ...feed, state: { kind: 'token', reason: detail ?? 'too many wrong tokens' } };
  }
  const reason = detail ?? `walcast answered with HTTP status ${status}`;
  const retryAtMs = nowMs + retryDelayMs(feed.failures);
  const kind = status >= 500 ? 'lost' : 'refused';
  return { ...feed, state: { kind, reason, retryAtMs }, failures: feed.failures + 1 };
}

/** True when what is shown is what walcast says now, as far as can be known. */
export function isCurrent({ state, heardAtMs }: Feed, nowMs: number): boolean {
  return state.kind === 'live' && heardAtMs !== null && nowMs - heardAtMs <= QUIET_MS_MAX;
}

/** True when a stream that is open has been silent for too long. */
export function isSilent(feed: Feed, nowMs: number): boolean {
  return feed.heardAtMs !== null && nowMs - feed.heardAtMs > SILENCE_MS_MAX;
}

/** How long to wait after so many failures, milliseconds. */
export function retryDelayMs(failures: number): number {
  return Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
}

function endReason(data: string): string {
  const value: unknown = JSON.parse(data);
  const reason =
    typeof value === 'object' && value !== null && 'reason' in value ? value.reason : null;
  return typeof reason === 'string' && reason !== ''
    ? reason.replace(/\.$/, '')
    : 'walcast ended the stream';
}

/** What walcast sends has the shape that its API promises: page and API are one program, of one version. */
function parse<T>(data: string): T {
  const value: T = JSON.parse(data);
  return value;
}
