// What is said of upstream, walcast, policy and store: facts out of a picture, no elements.
import type { Picture } from './picture.ts';
import { stateWord } from './standby-order.ts';
import type { StandbyRow, Tone } from './standby-order.ts';
import { agoWord, bytesWord, countWord, lagWord, rateWord, UNKNOWN } from './words.ts';
import type { Fact } from './words.ts';

/** Bytes a second, null while unknown. */
export interface Rates {
  readonly receivedRate: number | null;
  readonly sentRate: number | null;
}

/** `15.18`, of `15.18 (Debian 15.18-0+deb12u1)`. */
export function shortVersion(version: string | null): string {
  return version?.split(' ')[0] ?? UNKNOWN;
}

/** `pg-a:5432`. */
export function upstreamName({ upstream: { host, port } }: Picture): string {
  if (host === null) return 'not known yet';
  return port === null ? host : `${host}:${port}`;
}

/** What stands in the box of the upstream. */
export function upstreamFacts({ upstream }: Picture): Fact[] {
  return [
    ['PostgreSQL', shortVersion(upstream.server_version)],
    ['Timeline', String(upstream.timeline ?? UNKNOWN)],
    ['End of WAL', upstream.server_lsn ?? UNKNOWN],
  ];
}

/** What stands in the box of walcast. */
export function relayFacts({ status, store, sync }: Picture): Fact[] {
  return [
    ['State', status.state],
    ['Durable', store.flushed_lsn ?? UNKNOWN],
    ['Confirmed', sync.reported.flush ?? UNKNOWN],
  ];
}

/** What is between upstream and walcast. */
export interface Edge {
  readonly state: string;
  readonly tone: Tone;
  readonly figures: readonly string[];
}

/** The way from the upstream. */
export function upstreamEdge({ upstream }: Picture, { receivedRate }: Rates): Edge {
  const isStreaming = upstream.state === 'streaming';
  return {
    state: upstream.state,
    tone: isStreaming ? 'good' : 'bad',
    figures: isStreaming
      ? [
          rateWord(receivedRate),
          `lag ${lagWord(upstream.lag_seconds)}`,
          `${bytesWord(upstream.lag_bytes)} behind`,
        ]
      : [`${bytesWord(upstream.lag_bytes)} behind`],
  };
}

/** `298 streaming, 1 catchup, 1 gone`: how many of each state, the most frequent first. */
export function statesWord(rows: readonly StandbyRow[]): string {
  const counts = new Map<string, number>();
  for (const row of rows) counts.set(stateWord(row), (counts.get(stateWord(row)) ?? 0) + 1);
  return [...counts]
    .toSorted((a, b) => b[1] - a[1])
    .map(([word, count]) => `${count} ${word}`)
    .join(', ');
}

/** How much goes out for each byte that comes in; null while nothing does. */
export function fanOut({ receivedRate, sentRate }: Rates): number | null {
  if (receivedRate === null || sentRate === null || receivedRate < 1) return null;
  return sentRate / receivedRate;
}

/** Policy and what it has come to. */
export function syncFacts({ sync, upstream }: Picture, nowMs: number): Fact[] {
  const facts: Fact[] = [['Confirmed to the upstream', reportedText(sync.reported)]];
  if (sync.method !== null) {
    const method = sync.method === 'priority' ? 'FIRST: by their order' : 'ANY: whichever is there';
    facts.unshift(
      ['Kind', method],
      [sync.satisfied ? 'Satisfied since' : 'Not satisfied since', agoWord(sync.since, nowMs)],
      ['Confirmed by standbys', reportedText(sync.confirmed)],
    );
    facts.push(['Not satisfied in all', lagWord(sync.unsatisfied_seconds)]);
  }
  if (sync.upstream !== null) {
    const { synchronous_standby_names: names, membership } = sync.upstream;
    facts.push(['Upstream’s own policy', names === '' ? 'none' : names]);
    if (names !== '') facts.push(['walcast is listed there', MEMBERSHIP_WORDS[membership]]);
  }
  if (upstream.slot !== null) facts.push(['Slot on the upstream', upstream.slot]);
  return facts;
}

type Membership = NonNullable<Picture['sync']['upstream']>['membership'];

const MEMBERSHIP_WORDS: Readonly<Record<Membership, string>> = {
  named: 'by its name',
  any: 'by *, as everybody',
  none: 'no: commits there do not wait for it',
};

function reportedText({ write, flush, apply }: Picture['sync']['reported']): string {
  if (write === null && flush === null && apply === null) return 'nothing';
  const word = (lsn: string | null): string => lsn ?? 'not offered';
  return `write ${word(write)}, flush ${word(flush)}, apply ${word(apply)}`;
}

/** What is kept. */
export function storeFacts({ store }: Picture): Fact[] {
  const { size_bytes: size, limit_bytes: limit } = store;
  const share = limit === null ? '' : ` of ${bytesWord(limit)} (${percent(size, limit)})`;
  const sizeText = `${bytesWord(size)}${share}`;
  const facts: Fact[] = [
    store.near_limit ? ['Size', sizeText, 'bad'] : ['Size', sizeText],
    ['Segments', store.segments.toLocaleString('en')],
    ['From', store.oldest_lsn ?? UNKNOWN],
    ['Received up to', store.received_lsn ?? UNKNOWN],
    ['On the disk up to', store.flushed_lsn ?? UNKNOWN],
    ['Sent from memory', bytesWord(store.read_bytes.memory)],
    ['Sent from disk', bytesWord(store.read_bytes.disk)],
    ['In memory', `${bytesWord(store.memory_bytes)} of ${bytesWord(store.memory_bytes_max)}`],
  ];
  const { files, bytes } = store.dead;
  if (files > 0) {
    facts.push(['Kept aside', `${countWord(files, 'file')}, ${bytesWord(bytes)}`, 'notice']);
  }
  return facts;
}

function percent(part: number, whole: number): string {
  const share = (100 * part) / whole;
  return `${share > 0 && share < 1 ? '<1' : Math.round(share)} %`;
}
