// Does the look at all ledgers together find what is planted in them, also behind what was judged and forgotten?
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import { LedgerAudit } from '../harness/ledger-audit.ts';
import type { AuditTruth, LinkRecord } from '../harness/ledger-audit.ts';
import { seenNow } from '../harness/ledger.ts';
import type { ConnectionLedger, StreamLedger } from '../harness/ledger.ts';

const PAGE = 8192n;
const TRUTH: AuditTruth = {
  walDirectory: '/nowhere',
  history: rootHistory(toTimelineId(1)),
  segmentSize: toSegmentSize(1 << 20),
  // Nothing to walk: page boundaries and ends of messages have to do.
  endLsn: () => Promise.resolve(INVALID_LSN),
  pages: () => 'right',
};

class Wire {
  readonly record: LinkRecord;
  readonly stream: StreamLedger;
  readonly connection: ConnectionLedger;

  constructor(from: string, to: string, seenBy?: string) {
    this.stream = {
      startLsn: toLsn(0n),
      timeline: 1,
      slot: null,
      startedAt: seenNow(0),
      wal: [],
      pages: [],
      replies: [],
      keepalives: [],
      feedback: [],
      end: null,
    };
    this.connection = {
      id: 1,
      openedAt: seenNow(0),
      parameters: new Map(),
      commands: [],
      streams: [this.stream],
      identified: [],
      unreadable: [],
      closedAt: null,
      closedBy: null,
    };
    const ledger = { name: `${from} → ${to}`, connections: [this.connection] };
    this.record = { from, to, ledger, ...(seenBy === undefined ? {} : { seenBy }) };
  }

  wal(page: bigint, digest = 'right'): void {
    const [startLsn, endLsn] = [toLsn(page * PAGE), toLsn((page + 1n) * PAGE)];
    this.stream.wal.push({ ...seenNow(0), startLsn, endLsn, walEnd: endLsn });
    this.stream.pages.push({ startLsn, endLsn, digest });
  }

  reply(page: bigint): void {
    const lsn = toLsn(page * PAGE);
    const sentLsn = this.stream.wal.at(-1)?.endLsn ?? this.stream.startLsn;
    const none = toLsn(0n);
    const reply = { writeLsn: lsn, flushLsn: lsn, applyLsn: none, replyRequested: false, sentLsn };
    this.stream.replies.push({ ...seenNow(0), ...reply });
  }
}

function chain(): { up: Wire; between: Wire; down: Wire; links: LinkRecord[] } {
  const up = new Wire('primary', 'r1');
  const between = new Wire('r1', 'r2');
  const down = new Wire('r2', 's1');
  return { up, between, down, links: [up, between, down].map(({ record }) => record) };
}

describe('the look at all ledgers', () => {
  it('has nothing to say of a chain in order, before and after it has forgotten', async () => {
    const audit = new LedgerAudit(['r1', 'r2']);
    const { up, between, down, links } = chain();
    for (const page of [0n, 1n, 2n, 3n]) {
      for (const wire of [up, between, down]) wire.wal(page);
      for (const wire of [down, between, up]) wire.reply(page + 1n);
      expect(await audit.violations(links, TRUTH)).toEqual([]);
      audit.forget(links);
      expect(up.stream.wal).toEqual([]);
    }
  });

  it.each([false, true])(
    'finds a gap behind what it has judged (forgotten: %s)',
    async (forgets) => {
      const audit = new LedgerAudit(['r1', 'r2']);
      const { up, links } = chain();
      up.wal(0n);
      expect(await audit.violations(links, TRUTH)).toEqual([]);
      if (forgets) audit.forget(links);
      up.wal(2n);
      expect(await audit.violations(links, TRUTH)).toEqual([
        expect.stringMatching(
          /^primary → r1: gap: WAL 0\/4000–0\/6000 came where 0\/2000 was next/,
        ),
      ]);
    },
  );

  it('forgets nothing that came while it looked', async () => {
    const audit = new LedgerAudit(['r1', 'r2']);
    const { up, links } = chain();
    up.wal(0n);
    const looking = audit.violations(links, TRUTH);
    up.wal(1n, 'wrong');
    expect(await looking).toEqual([]);
    audit.forget(links);
    expect(await audit.violations(links, TRUTH)).toEqual([
      expect.stringMatching(/^primary → r1: the bytes from 0\/2000 to 0\/4000/),
    ]);
  });

  it.each([false, true])('finds a report that goes back (forgotten: %s)', async (forgets) => {
    const audit = new LedgerAudit(['r1', 'r2']);
    const { up, links } = chain();
    up.wal(0n);
    up.wal(1n);
    up.reply(2n);
    expect(await audit.violations(links, TRUTH)).toEqual([]);
    if (forgets) audit.forget(links);
    up.reply(1n);
    expect(await audit.violations(links, TRUTH)).toEqual([
      expect.stringMatching(/write position went back from 0\/4000 to 0\/2000/),
      expect.stringMatching(/flush position went back from 0\/4000 to 0\/2000/),
    ]);
  });

  it('finds WAL that a relay sent before it was told of it, at each hop', async () => {
    const { up, between, down, links } = chain();
    up.wal(0n);
    down.wal(0n);
    between.wal(0n);
    expect(await new LedgerAudit(['r1', 'r2']).violations(links, TRUTH)).toEqual([
      expect.stringMatching(
        /^r2: WAL up to 0\/2000 went downstream when upstream had stated only 0/,
      ),
      expect.stringMatching(/^r2: an end of WAL of 0\/2000/),
    ]);
  });

  it('compares the order of entries only within what one relay saw', async () => {
    const audit = new LedgerAudit(['r1', 'r2']);
    // r1's own view of the hop is read in behind r2's.
    const seen = new Wire('r1', 'r2', 'r2');
    const down = new Wire('r2', 's1', 'r2');
    seen.wal(0n);
    down.wal(0n);
    const up = new Wire('primary', 'r1', 'r1');
    const between = new Wire('r1', 'r2', 'r1');
    up.wal(0n);
    between.wal(0n);
    const links = [seen, down, up, between].map(({ record }) => record);
    expect(await audit.violations(links, TRUTH)).toEqual([]);
  });

  it('finds a position that was reported and never received', async () => {
    const { up, links } = chain();
    up.wal(0n);
    up.reply(3n);
    expect(await new LedgerAudit(['r1', 'r2']).violations(links, TRUTH)).toEqual([
      expect.stringMatching(/write position 0\/6000 was reported when only 0\/2000 had been sent/),
      expect.stringMatching(/flush position 0\/6000/),
    ]);
  });

  it('finds other bytes on any link', async () => {
    const { up, between, links } = chain();
    up.wal(0n);
    between.wal(0n, 'wrong');
    expect(await new LedgerAudit(['r1', 'r2']).violations(links, TRUTH)).toEqual([
      expect.stringMatching(/^r1 → r2: the bytes from 0\/0 to 0\/2000 .* are not upstream's/),
    ]);
  });
});
