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

/** WAL comes in, so that what the upstream has is known. */
function isFollowed({ upstream: { state } }: Picture): boolean {
  return state === 'streaming' || state === 'catchup';
}

/** Since when the end of the upstream's WAL is not known any more; null while it is. */
export function endAsOf(picture: Picture, nowMs: number): string | null {
  const { last_message_at: heardAt } = picture.upstream;
  if (isFollowed(picture) || heardAt === null) return null;
  return `as of ${agoWord(heardAt, nowMs)}`;
}

/** Of other states nothing comes in. */
const EDGE_TONES: Readonly<Record<string, Tone>> = { streaming: 'good', catchup: 'notice' };

/** The way from the upstream; `nowMs` by the clock of walcast. */
export function upstreamEdge(picture: Picture, { receivedRate }: Rates, nowMs: number): Edge {
  const { upstream } = picture;
  const behind = upstream.lag_bytes === null ? null : `${bytesWord(upstream.lag_bytes)} behind`;
  const asOf = endAsOf(picture, nowMs);
  const last = behind === null || asOf === null ? [] : [behind, asOf];
  return {
    state: upstream.state.replaceAll('_', ' '),
    tone: EDGE_TONES[upstream.state] ?? 'bad',
    figures: isFollowed(picture)
      ? [rateWord(receivedRate), `lag ${lagWord(upstream.lag_seconds)}`, behind ?? UNKNOWN]
      : last,
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

/** Of standbys that are not drawn: how many of each state, and how far behind they are, as far as that is known. */
export function restWord(rows: readonly StandbyRow[]): string {
  const known = rows.flatMap((row) =>
    row.kind === 'here' && row.standby.lag_bytes !== null ? [row.standby.lag_bytes] : [],
  );
  const most = bytesWord(Math.max(0, ...known));
  const all = known.length === rows.length ? 'none is' : `of ${known.length} it is known: none is`;
  const behind = known.length === 0 ? '' : `; ${all} more than ${most} behind`;
  return `and ${rows.length} more: ${statesWord(rows)}${behind}`;
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
  const { free_bytes: free, disk_bytes: disk } = store;
  if (free !== null && disk !== null) {
    facts.push(['Free on the disk', `${bytesWord(free)} of ${bytesWord(disk)}`]);
  }
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
