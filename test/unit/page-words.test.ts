// Does the status page say what is so, also where little is known?
import { describe, expect, test } from 'vitest';
import type { FindingJson } from '../../src/http/api-types.ts';
import { NEW_FEED } from '../../page/feed-machine.ts';
import type { Feed } from '../../page/feed-machine.ts';
import type { Picture } from '../../page/picture.ts';
import { absentFacts, standbyFacts } from '../../page/standby-facts.ts';
import { rowsOf } from '../../page/standby-order.ts';
import {
  endAsOf,
  fanOut,
  relayFacts,
  restWord,
  shortVersion,
  statesWord,
  storeFacts,
  syncFacts,
  upstreamEdge,
  upstreamFacts,
  upstreamName,
} from '../../page/summary.ts';
import {
  agoWord,
  bytesWord,
  countWord,
  freshness,
  headline,
  lagWord,
  lossNote,
  policyState,
  rateWord,
  sentence,
  visible,
} from '../../page/words.ts';
import type { Fact } from '../../page/words.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { RelayState } from '../../src/status/status.ts';
import { pageStandby, rowOf, samplePicture } from '../support/page-picture.ts';
import { sampleStatus, sampleSync, unknownStatus } from '../support/relay-status.ts';
import { SAMPLE_NOW_MS } from '../support/status-json.ts';

const NO_RATES = { receivedRate: null, sentRate: null };

function finding(severity: FindingJson['severity']): FindingJson {
  return { code: 'x', severity, subject: null, message: 'm', next_step: 'n', alert: null };
}

function liveFeed(picture: Picture): Feed {
  return { ...NEW_FEED, state: { kind: 'live' }, picture, heardAtMs: 0 };
}

function feedWith(findings: readonly FindingJson[], state: RelayState): Feed {
  const picture = samplePicture();
  return liveFeed({ ...picture, status: { ...picture.status, findings, state } });
}

function said(facts: readonly Fact[], term: string): string | undefined {
  return facts.find(([name]) => name === term)?.[1];
}

describe('figures', () => {
  test('what is unknown is a dash, and never a zero', () => {
    for (const word of [bytesWord, rateWord, lagWord]) expect(word(null)).toBe('–');
    expect(agoWord(null, 0)).toBe('–');
    expect([bytesWord(0), rateWord(0), lagWord(0)]).toEqual(['0 B', '0 B/s', '0 s']);
  });

  test('are written as everywhere in walcast', () => {
    expect(bytesWord(1_536)).toBe('1.5 kB');
    expect(rateWord(12.4 * 1024 * 1024)).toBe('12.4 MB/s');
    expect([lagWord(0.0034), lagWord(1.5), lagWord(90), lagWord(7_300)]).toEqual([
      '3.4 ms',
      '1.5 s',
      '90 s',
      '2 h 1 min',
    ]);
    expect([countWord(1, 'standby'), countWord(1_000, 'standby')]).toEqual([
      '1 standby',
      '1,000 standbys',
    ]);
    expect(agoWord('2026-01-01T00:00:00.000Z', Date.UTC(2026, 0, 1, 0, 5))).toBe('5 min ago');
  });
});

describe('what others have written', () => {
  test('becomes a sentence, whatever it ends with', () => {
    expect(sentence('is it there (listen_addresses)?')).toBe('Is it there (listen_addresses)?');
    expect([sentence('so it is.'), sentence('so it is')]).toEqual(['So it is.', 'So it is.']);
  });

  test('hides nothing, and turns nothing round', () => {
    expect(visible('a\u0007b\u001b[31m\u202Edlrow\u200b\u2066')).toBe(
      'a\\x07b\\x1b[31m\\u202edlrow\\u200b\\u2066',
    );
    expect(visible('Zoë – “größer” 数据库 😀 שלום')).toBe('Zoë – “größer” 数据库 😀 שלום');
  });
});

describe('the headline', () => {
  test.each([
    [[], 'streaming', 'All is well', 'good'],
    [['info'], 'streaming', 'All is well', 'good'],
    [['warning'], 'streaming', '1 warning', 'notice'],
    [['critical', 'warning', 'warning'], 'gap', '1 critical, 2 warnings', 'bad'],
    [[], 'starting', 'walcast is starting', 'notice'],
  ] as const)('findings %j in state %s are %j', (severities, state, text, tone) => {
    expect(headline(feedWith(severities.map(finding), state), 0)).toEqual({ text, tone });
  });

  test('nothing is well while it is not known how things are', () => {
    const picture = samplePicture();
    const lost: Feed = {
      ...liveFeed(picture),
      state: { kind: 'lost', reason: 'the connection was closed', retryAtMs: 3_000 },
      currentAtMs: 1_000,
    };
    const live = { ...liveFeed(picture), heardAtMs: 1_000 };
    expect(freshness(live, 21_000)).toBe('live');
    expect(freshness(live, 21_001)).toBe('nothing heard for 20 s');
    expect(headline(live, 21_001)).toEqual({ text: 'Nothing heard of walcast', tone: 'notice' });
    expect(headline(lost, 2_000).text).toBe('Connection lost');
    expect(headline({ ...lost, picture: null }, 2_000).text).toBe('No connection to walcast');
    expect(freshness(lost, 2_000)).toBe('not live, 1 s old');
    expect(freshness({ ...lost, currentAtMs: null }, 2_000)).toBe('not connected');
    expect(lossNote(lost, 3_500)).toBe(
      'The connection was closed. What is shown here was so 2 s ago. Trying again.',
    );
    expect(headline({ ...lost, state: { kind: 'token', reason: null } }, 2_000).text).toBe(
      'A token is needed',
    );
  });
});

describe('upstream and relay', () => {
  test('are said with their positions', () => {
    const picture = samplePicture();
    expect(upstreamName(picture)).toBe('pg-a:5432');
    expect(upstreamFacts(picture)).toEqual([
      ['PostgreSQL', '15.18'],
      ['Timeline', '1'],
      ['End of WAL', '0/3000100'],
    ]);
    expect(relayFacts(picture)).toEqual([
      ['State', 'streaming'],
      ['Durable', '0/3000000'],
      ['Confirmed', '0/3000000'],
    ]);
    const rates = { receivedRate: 2_048, sentRate: 6_144 };
    expect(upstreamEdge(picture, rates, SAMPLE_NOW_MS)).toEqual({
      state: 'streaming',
      tone: 'good',
      figures: ['2.0 kB/s', 'lag 125 ms', '256 B behind'],
    });
    expect(fanOut(rates)).toBe(3);
    expect(fanOut({ receivedRate: 0, sentRate: 0 })).toBeNull();
  });

  test('say nothing of what is not known yet', () => {
    const picture = samplePicture(unknownStatus());
    expect(upstreamName(picture)).toBe('not known yet');
    expect(shortVersion(null)).toBe('–');
    const texts = [...upstreamFacts(picture), ...relayFacts(picture)].map(([, text]) => text);
    expect(texts).toEqual(['–', '–', '–', 'starting', '–', '–']);
    const edge = upstreamEdge(picture, NO_RATES, SAMPLE_NOW_MS);
    expect(edge).toMatchObject({ state: 'disconnected', tone: 'bad', figures: [] });
  });

  test('what was known of an upstream that is gone is said to be of then', () => {
    const { upstream } = sampleStatus();
    const gone = samplePicture({ upstream: { ...upstream, state: 'disconnected' } });
    const then = SAMPLE_NOW_MS + 300_000;
    const asOf = `as of ${agoWord(gone.upstream.last_message_at, then)}`;
    expect(asOf).toBe('as of 5 min ago');
    const edge = upstreamEdge(gone, NO_RATES, then);
    expect(edge).toMatchObject({ tone: 'bad', figures: ['256 B behind', asOf] });
    expect(endAsOf(gone, then)).toBe(asOf);
    expect(endAsOf(samplePicture(), then)).toBeNull();
  });

  test('one that is behind and catches up is shown with what comes in', () => {
    const { upstream } = sampleStatus();
    const picture = samplePicture({ upstream: { ...upstream, state: 'catchup' } });
    const edge = upstreamEdge(picture, { receivedRate: 2_048, sentRate: null }, SAMPLE_NOW_MS);
    expect(edge).toMatchObject({
      tone: 'notice',
      figures: ['2.0 kB/s', 'lag 125 ms', '256 B behind'],
    });
  });

  test('of those that are not drawn no lag is said that nobody knows', () => {
    const [known, unknown] = [rowOf('a', { lag_bytes: 2_048 }), rowOf('b', { lag_bytes: null })];
    expect(restWord([known])).toBe('and 1 more: 1 streaming; none is more than 2.0 kB behind');
    expect(restWord([known, unknown])).toBe(
      'and 2 more: 2 streaming; of 1 it is known: none is more than 2.0 kB behind',
    );
    expect(restWord([unknown])).toBe('and 1 more: 1 streaming');
  });

  test('states of many are counted, the most frequent first', () => {
    const rows = [rowOf('a'), rowOf('b', { state: 'catchup' }), rowOf('c')];
    expect(statesWord(rows)).toBe('2 streaming, 1 catchup');
  });
});

describe('the policy', () => {
  test.each([
    ['', 'none', /; no commit waits/],
    ['other', 'none', /; no commit waits/],
    ['walcast', 'named', /stand still$/],
    ['*', 'any', /stand still$/],
  ] as const)(
    'not satisfied, with %j (%s) upstream: what that does to commits is as it is',
    (names, membership, text) => {
      const { sync } = samplePicture({
        sync: sampleSync({ method: 'quorum', requiredStandbys: 1, isSatisfied: false }),
      });
      const upstream = { synchronous_standby_names: names, membership, as_of: null };
      expect(policyState({ ...sync, upstream }).text).toMatch(text);
    },
  );

  test('without one it is no question of being satisfied', () => {
    const { sync } = samplePicture();
    expect(policyState(sync)).toEqual({ text: 'not in use', tone: 'good' });
  });

  test.each([
    [true, 2, 'satisfied: 2 needed, 2 there', 'good'],
    [
      false,
      1,
      'not satisfied: 2 needed, 1 there; commits that wait for walcast stand still',
      'bad',
    ],
  ])('satisfied %s, %i there: it is said in words', (isSatisfied, eligible, text, tone) => {
    const picture = samplePicture({
      sync: sampleSync({
        synchronousStandbyNames: 'FIRST 2 (a, b, c)',
        method: 'priority',
        requiredStandbys: 2,
        eligibleStandbys: eligible,
        isSatisfied,
        sinceMs: SAMPLE_NOW_MS - 42_000,
      }),
    });
    expect(policyState(picture.sync)).toEqual({ text, tone });
    const facts = syncFacts(picture, SAMPLE_NOW_MS);
    expect(said(facts, isSatisfied ? 'Satisfied since' : 'Not satisfied since')).toBe('42 s ago');
    expect(said(facts, 'Confirmed to the upstream')).toBe(
      'write 0/3000060, flush 0/3000000, apply not offered',
    );
  });

  test('what is not offered upstream is said to be nothing', () => {
    const none = toLsn(0n);
    const { upstream } = sampleStatus();
    const reported = { writeLsn: none, flushLsn: none, applyLsn: none };
    const picture = samplePicture({ upstream: { ...upstream, reported } });
    expect(said(syncFacts(picture, 0), 'Confirmed to the upstream')).toBe('nothing');
  });
});

describe('the store', () => {
  test('says how much of its limit is in use', () => {
    expect(said(storeFacts(samplePicture()), 'Size')).toBe('48.0 MB of 64.0 GB (<1 %)');
    const { retention } = sampleStatus();
    const unbounded = samplePicture({ retention: { ...retention, limitBytes: 0 } });
    expect(said(storeFacts(unbounded), 'Size')).toBe('48.0 MB');
  });

  test('says what is kept aside, when there is something', () => {
    expect(said(storeFacts(samplePicture()), 'Kept aside')).toBeUndefined();
    const { store } = sampleStatus();
    const dead = { files: 2, bytes: 32 * 1024 * 1024, acknowledged: null };
    const picture = samplePicture({ store: { ...store, dead } });
    expect(said(storeFacts(picture), 'Kept aside')).toBe('2 files, 32.0 MB');
  });
});

describe('one standby', () => {
  test('is told with all its positions, and each lag beside the position it is of', () => {
    const facts = standbyFacts(pageStandby(), SAMPLE_NOW_MS);
    expect(said(facts, 'Sent')).toBe('0/3000060');
    expect(said(facts, 'Written')).toBe('0/3000060, 4.0 ms behind');
    expect(said(facts, 'Flushed')).toBe('0/3000000, 20 ms behind');
    expect(said(facts, 'Replayed')).toBe('0/2FFF000, 2.5 s behind');
    expect(said(facts, 'Address')).toBe('10.0.0.7:40000');
    expect(said(facts, 'Connected')).toBe('50 s ago');
    expect(new Set(facts.map(([term]) => term)).size).toBe(facts.length);
  });

  test('is told as far as it has reported', () => {
    const fields = { replay_lsn: null, replay_lag: null, client_addr: null, reply_time: null };
    const facts = standbyFacts(pageStandby({}, fields), SAMPLE_NOW_MS);
    expect(said(facts, 'Replayed')).toBe('never reported');
    expect(said(facts, 'Address')).toBe('Unix socket');
    expect(said(facts, 'Last reply, by its clock')).toBe('–');
  });

  test('its clock may be another one: the time of its reply is no age', () => {
    const facts = standbyFacts(
      pageStandby({}, { reply_time: '2026-01-02T03:04:05.678Z' }),
      SAMPLE_NOW_MS,
    );
    expect(said(facts, 'Last reply, by its clock')).toBe('2026-01-02 03:04:05 UTC');
  });

  test('what is odd about it is said, and only then', () => {
    const odd = {
      stalled: true,
      name_shared: true,
      clamped_replies: 2,
      client_addr: '2001:db8::7',
    };
    const facts = standbyFacts(pageStandby({}, odd), SAMPLE_NOW_MS);
    expect(said(facts, 'Stalled')).toBe('has confirmed nothing more for a minute');
    expect(said(facts, 'Name')).toMatch(/same/);
    expect(said(facts, 'Claims')).toBe('2 beyond what it had been sent');
    expect(said(facts, 'Address')).toBe('[2001:db8::7]:40000');
    const terms = standbyFacts(pageStandby(), SAMPLE_NOW_MS).map(([term]) => term);
    expect(terms).not.toContain('Stalled');
  });

  test('that has left is told with how, and where it was', () => {
    const row = rowsOf(samplePicture()).find(({ kind }) => kind === 'gone');
    if (row?.kind !== 'gone') throw new Error('there is one');
    const facts = absentFacts(row.standby, SAMPLE_NOW_MS);
    expect(said(facts, 'Left')).toBe('10 s ago');
    expect(said(facts, 'How')).toBe('it said goodbye');
    expect(said(facts, 'Replayed')).toBe('0/2000000');
  });
});
