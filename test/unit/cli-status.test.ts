// Does `walcast status` show what a relay says, worst first, in the room there is, once and again and again?
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { HandledSignal } from '../../src/cli/command.ts';
import { inColours } from '../../src/cli/paint.ts';
import { wrapped } from '../../src/cli/plain-text.ts';
import { statusView } from '../../src/cli/status-view.ts';
import { STATUS_WATCH_MS } from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openTestPort } from '../support/http-port.ts';
import {
  sampleAbsentStandby,
  sampleFeedback,
  sampleStandby,
  sampleStatus,
  sampleSync,
  unknownStatus,
} from '../support/relay-status.ts';
import { SAMPLE_NOW_MS, statusJson } from '../support/status-json.ts';

/** The clock of a relay whose figures are those of the samples. */
const CLOCK = { ...systemClock, wallMs: () => SAMPLE_NOW_MS };

async function serving(
  status: () => RelayStatus = sampleStatus,
): Promise<{ url: string; close: () => Promise<void> }> {
  const server = await openTestPort({ source: { status }, clock: CLOCK });
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  onTestFinished(close);
  return { url: server.url, close };
}

const type = async (words: readonly string[], world = {}): Promise<CliOutcome> =>
  await walcast(words, world);

function crowd(count: number): RelayStatus {
  return sampleStatus({
    standbys: Array.from({ length: count }, (_, pid) =>
      sampleStandby({
        pid,
        applicationName: `standby_${pid}`,
        applyLsn: toLsn(BigInt(0x2000000 + ((pid * 7919) % count))),
      }),
    ),
  });
}

describe('the picture', () => {
  test('has what is the matter, upstream, store and standbys', async () => {
    const { url } = await serving();
    const { code, out } = await type(['status', '--url', url]);
    expect(code).toBe(0);
    expect(out).toBe(`walcast 0.1.0: streaming
system 7301234567890123456, PostgreSQL 15.18 (Debian 15.18-0+deb12u1), timeline 1

WARNING   standby standby_b left 10 s ago with WAL it had received and not replayed, and is not back (wedged?)
          Read the log of standby_b: where its recovery found a record wrong, it has to be restarted by hand.
INFO      stored WAL was found damaged since the start: 2 segments fetched again, 1 attempt failed
          Run "walcast wal verify" on the data directory, and check the disk.
INFO      what was changed in the configuration takes effect at a restart: listen
          Restart walcast when it suits: it drains first, and standbys come back by themselves.

upstream  pg-a:5432, slot walcast: streaming
          server 0/3000100  received 0/3000060  flushed 0/3000000  acknowledged 0/3000000  lag 256 B
store     0/1000000 to 0/3000000, 3 segments, 48.0 MB

pid | application_name | client   | state     | sync  | sent_lsn  | flush_lsn | replay_lsn |    lag | write_lag | flush_lag | replay_lag | slot_name
----+------------------+----------+-----------+-------+-----------+-----------+------------+--------+-----------+-----------+------------+----------
 42 | standby_a        | 10.0.0.7 | streaming | async | 0/3000060 | 0/3000000 | 0/2FFF000  | 4.3 kB |    4.0 ms |     20 ms |      2.5 s | slot_a

standbys that left and are not back
application_name | client   | state   | left_at                  | how        | flush_lsn | replay_lsn | slot_name
-----------------+----------+---------+--------------------------+------------+-----------+------------+----------
standby_b        | 10.0.0.8 | wedged? | 2023-11-14T22:14:50.000Z | terminated | 0/2000060 | 0/2000000  | slot_b
`);
  });

  test('marks a standby in trouble beside its state', () => {
    const view = (standby: Parameters<typeof sampleStandby>[0]): string =>
      statusView(statusJson(sampleStatus({ standbys: [sampleStandby(standby)] })));
    expect(view({ isStalled: true })).toContain('| streaming (stalled) |');
    expect(view({ isStalled: true, isNameShared: true })).toContain(
      '| streaming (stalled, shared name) |',
    );
  });

  test('has the standby that is worst first, and stands still among equals', () => {
    const standbys = [
      sampleStandby({ pid: 1, applicationName: 'b' }),
      sampleStandby({ pid: 3, applicationName: 'a' }),
      sampleStandby({ pid: 2, applicationName: 'a' }),
      sampleStandby({ pid: 4, applicationName: 'behind', applyLsn: toLsn(0x2000000n) }),
      sampleStandby({ pid: 5, applicationName: 'still', isStalled: true }),
    ];
    const view = statusView(statusJson(sampleStatus({ standbys, absentStandbys: [] })));
    const pids = [...view.matchAll(/^ *(\d+) \| /gm)].map(([, pid]) => Number(pid));
    expect(pids).toEqual([5, 4, 2, 3, 1]);
  });

  test('has a line each for a policy and for the one that holds the horizon', () => {
    const sync = sampleSync({
      synchronousStandbyNames: 'ANY 2 (a, b, c)',
      method: 'quorum',
      requiredStandbys: 2,
      eligibleStandbys: 2,
    });
    const standbys = [sampleStandby({ syncState: 'quorum', syncPriority: 1 })];
    const feedback = sampleFeedback({ xmin: 7001n, heldBy: 'standby_a' });
    const view = statusView(statusJson(sampleStatus({ sync, standbys, feedback })));
    expect(view).toContain(
      `sync      ANY 2 (a, b, c): 2 of 2 needed, satisfied since 2023-11-14T22:13:20.000Z
          confirmed  write 0/3000060  flush 0/3000000  replay -
feedback  xmin 7001, held by standby_a
`,
    );
    expect(view).toContain('| streaming | quorum 1 |');
    const leftOut = sampleFeedback({ leftOut: 2 });
    expect(statusView(statusJson(sampleStatus({ feedback: leftOut })))).toContain(
      'feedback  2 left out: further behind than max_feedback_xmin_age allows\n',
    );
    const few = { ...sync, isSatisfied: false, eligibleStandbys: 1 };
    expect(statusView(statusJson(sampleStatus({ sync: few })))).toContain(
      '1 of 2 needed, NOT satisfied: no flush position is reported since',
    );
  });

  test('tells alarms and a name that clashes with what to do', () => {
    const sync = sampleSync({
      clash: 'our name clashes. Take another.',
      alarms: ['it falls. Look.'],
    });
    const view = statusView(statusJson(sampleStatus({ sync })));
    expect(view).toContain('WARNING   it falls\n          Look.\n');
    expect(view).toContain('INFO      our name clashes\n          Take another.\n');
  });

  test('of nothing known and nobody connected says so', () => {
    const view = statusView(statusJson(unknownStatus()));
    expect(view).toContain('upstream  none yet, slot walcast: disconnected');
    expect(view).toContain('no standbys are connected');
    expect(view).not.toContain('not back');
    expect(view).not.toMatch(/null|undefined|NaN/);
  });

  test('gives a terminal no control characters that a client chose', () => {
    const evil = '\u001b[2Jx\n';
    const view = statusView(
      statusJson(
        sampleStatus({
          state: 'connecting',
          detail: evil,
          standbys: [sampleStandby({ applicationName: evil, isStalled: true, slotName: evil })],
          absentStandbys: [sampleAbsentStandby({ applicationName: evil })],
        }),
      ),
    );
    expect(view).toContain('?[2Jx?');
    // oxlint-disable-next-line no-control-regex -- the point
    expect(view).not.toMatch(/[^\x20-\x7e\n]/);
  });

  test('says why in brackets where no finding does', () => {
    const status = { ...statusJson(sampleStatus({ detail: 'why' })), findings: [] };
    expect(statusView(status)).toContain('walcast 0.1.0: streaming (why)\n');
  });
});

describe('in little room', () => {
  test.each([200, 120, 80, 60, 40, 20, 1])('no line is longer than %d columns', (columns) => {
    const view = statusView(statusJson(crowd(300)), { columns, rows: null });
    const longest = Math.max(...view.split('\n').map((line) => line.length));
    expect(longest).toBeLessThanOrEqual(columns);
  });

  test('name, state and lag of a standby are there to the last', () => {
    const header = (columns: number): string =>
      statusView(statusJson(crowd(3)), { columns, rows: null })
        .split('\n')
        .find((line) => line.includes('application_name')) ?? '';
    expect(header(200)).toMatch(/^pid .*slot_name$/);
    expect(header(80).split(/ *\| */)).toEqual([
      'application_name',
      'state',
      'sync',
      'replay_lsn',
      'lag',
      'replay_lag',
    ]);
    expect(header(40).split(/ *\| */)).toEqual(['application_name', 'state', 'lag']);
  });

  test.each([100, 50, 24, 12, 5, 1])(
    'no more than %d lines, the worst standbys among them',
    (rows) => {
      const view = statusView(statusJson(crowd(300)), { columns: 80, rows });
      const lines = view.trimEnd().split('\n');
      expect(lines.length).toBeLessThanOrEqual(rows);
      expect(lines[0]).toMatch(/^walcast 0\.1\.0: streaming/);
      if (rows < 50) return;
      expect(view).toMatch(/^and 2\d\d more, none of them worse$/m);
      expect(view).toContain('standby_0 ');
      expect(view).toContain('standbys that left and are not back');
    },
  );

  test('very many findings and absent ones are counted', () => {
    const absentStandbys = Array.from({ length: 20 }, (_, index) =>
      sampleAbsentStandby({ applicationName: `away_${index}` }),
    );
    const view = statusView(statusJson(sampleStatus({ absentStandbys })), {
      columns: 100,
      rows: 60,
    });
    expect(view).toMatch(/^ {10}and \d+ more$/m);
    expect(view).toContain('standbys that left and are not back (17 more)');
  });

  test('a long text is broken between words, and a long word anywhere', () => {
    expect(wrapped('WARNING   a few words more', 20)).toEqual([
      'WARNING   a few',
      '          words more',
    ]);
    expect(wrapped(`WARNING   ${'x'.repeat(25)}`, 20)).toEqual([
      'WARNING   xxxxxxxxxx',
      '          xxxxxxxxxx',
      '          xxxxx',
    ]);
    expect(wrapped('x'.repeat(50), 4)).toEqual(['x'.repeat(50)]);
    expect(wrapped('x y', null)).toEqual(['x y']);
  });
});

describe('colours', () => {
  test('say the same as the words', () => {
    const red = (text: string): string => `\u001b[1;31m${text}\u001b[0m`;
    expect(inColours('CRITICAL  gone\nall')).toBe(`${red('CRITICAL')}  gone\nall`);
    expect(inColours('walcast 0.1.0: gap (x)')).toBe(`walcast 0.1.0: ${red('gap')} (x)`);
    expect(inColours('walcast 0.1.0: streaming')).toContain('\u001b[32mstreaming\u001b[0m');
    expect(inColours('walcast 0.1.0: draining')).toContain('\u001b[33mdraining\u001b[0m');
    expect(inColours('a CRITICAL word')).toBe('a CRITICAL word');
  });
});

test('--json prints the answer as it is', async () => {
  const { url } = await serving();
  const { out } = await type(['status', '--json', '--url', `${url}/`]);
  expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(statusJson(sampleStatus()))));
  expect(out.endsWith('}\n')).toBe(true);
});

test('nobody there, something else there, or no address at all', async () => {
  const { url, close } = await serving();
  const other = await type(['status', '--url', `${url}/nothing`]);
  expect([other.code, other.err]).toEqual([
    1,
    expect.stringContaining('is not a walcast: it answered 404'),
  ]);
  await close();
  const nobody = await type(['status', '--url', url]);
  expect(nobody.code).toBe(1);
  expect(nobody.err).toMatch(
    /^walcast status: no walcast answers at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\. Is it running/,
  );
  const bad = await Promise.all(
    ['nonsense', 'ftp://x/', 'http://x/?a', 'http://x/#a', 'http://me:secret@x/'].map((text) =>
      type(['status', '--url', text]),
    ),
  );
  expect(bad.map(({ code }) => code)).toEqual([2, 2, 2, 2, 2]);
  expect(bad.map(({ err }) => err).join('')).not.toContain('secret');
});

test('--json is JSON of the same meaning, and no terminal obeys what is in it', async () => {
  const applicationName = 'a\u009b2Jb\u001b[2J\u007f';
  const { url } = await serving(() =>
    sampleStatus({ standbys: [sampleStandby({ applicationName })] }),
  );
  const { out } = await type(['status', '--json', '--url', url]);
  // oxlint-disable-next-line no-control-regex -- the point
  expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(JSON.parse(out)).toMatchObject({ standbys: [{ application_name: applicationName }] });
});

describe('--watch', () => {
  /** Without waiting; `shown` is called with every picture and may press a key, send a signal, or take the walcast away. */
  async function watching(
    url: string,
    shown: (
      picture: string,
      how: { press: (key: string) => void; interrupt: () => void; count: number },
    ) => void,
    world: Record<string, unknown> = {},
  ): Promise<CliOutcome & { readonly released: string[] }> {
    let press: (key: string) => void = () => {};
    let signal: (name: HandledSignal) => void = () => {};
    let count = 0;
    let out = '';
    const released: string[] = [];
    const outcome = await type(['status', '--watch', '--url', url], {
      clock: {
        ...systemClock,
        setTimer: (ms: number, callback: () => void) =>
          systemClock.setTimer(ms === STATUS_WATCH_MS ? 0 : ms, callback),
      },
      onSignal: (listener: typeof signal) => {
        signal = listener;
        return () => void released.push('signals');
      },
      onKey: (listener: typeof press) => {
        press = listener;
        return () => void released.push('keys');
      },
      print: (text: string) => {
        out += text;
        // What leaves the picture is none.
        if (text === '\n') return;
        shown(text, { press, interrupt: () => signal('SIGINT'), count: ++count });
      },
      ...world,
    });
    return { ...outcome, out, released };
  }

  test('goes on until a signal, and every picture is whole where there is no terminal', async () => {
    const { url } = await serving();
    const pictures: string[] = [];
    const { code, released } = await watching(url, (picture, { interrupt, count }) => {
      pictures.push(picture);
      if (count === 3) interrupt();
    });
    expect([code, pictures.length, released]).toEqual([0, 3, ['signals']]);
    expect(new Set(pictures).size).toBe(1);
    // oxlint-disable-next-line no-control-regex -- the point
    expect(pictures[0]).not.toMatch(/\u001b/);
  });

  test.each(['q', 'Q', '\u0003'])(
    'on a terminal key %j ends it, other keys do not',
    async (key) => {
      const { url } = await serving();
      const { code, out, released } = await watching(
        url,
        (_picture, { press, count }) => press(count === 3 ? key : 'x'),
        { isTerminal: true, screenSize: () => ({ columns: 80, rows: 24 }) },
      );
      expect([code, released]).toEqual([0, ['signals', 'keys']]);
      expect(out.split('\u001b[H')).toHaveLength(4);
      expect(out.endsWith('\n')).toBe(true);
    },
  );

  test('fits the terminal of each moment, draws over what is there, and has colours', async () => {
    const { url } = await serving(() => crowd(300));
    const pictures: string[] = [];
    let size = { columns: 80, rows: 24 };
    await watching(
      url,
      (picture, { press, count }) => {
        pictures.push(picture);
        size = { columns: 60, rows: 12 };
        if (count === 2) press('q');
      },
      { isTerminal: true, screenSize: () => size },
    );
    expect(pictures.map((picture) => picture.split('\n').length)).toEqual([24, 12]);
    expect(pictures[0]?.startsWith('\u001b[H\u001b[2J')).toBe(true);
    expect(pictures[1]).not.toContain('\u001b[2J');
    // Behind a line as wide as the terminal that would take its last character away.
    // oxlint-disable-next-line no-control-regex -- what steers the terminal
    expect(pictures.join('')).not.toMatch(/[^\nH]\u001b\[K/);
    expect(pictures[1]?.endsWith('q: quit\u001b[J')).toBe(true);
    expect(pictures[0]).toContain('\u001b[33mWARNING\u001b[0m');
  });

  test.each([{ NO_COLOR: '1' }, { TERM: 'dumb' }])('%j leaves colours out', async (env) => {
    const { url } = await serving();
    const { out } = await watching(url, (_picture, { press }) => press('q'), {
      isTerminal: true,
      env,
    });
    expect(out).toContain('WARNING   standby');
    expect(out).not.toContain('\u001b[33m');
  });

  test('a walcast that goes away is told above the last picture, and asked until it is back', async () => {
    const { url, close } = await serving();
    const port = Number(new URL(url).port);
    const pictures: string[] = [];
    let work: Promise<unknown> = close();
    await work;
    const first = await openTestPort({
      listen: { kind: 'tcp', host: '127.0.0.1', port },
      clock: CLOCK,
    });
    let back: Awaited<ReturnType<typeof openTestPort>> | null = null;
    onTestFinished(async () => {
      await work;
      await back?.close();
    });
    const { code } = await watching(
      url,
      (picture, { press }) => {
        pictures.push(picture);
        const isGone = picture.includes('NO ANSWER');
        if (pictures.length === 1) work = first.close();
        else if (isGone && back === null) {
          work = work
            .then(() =>
              openTestPort({ listen: { kind: 'tcp', host: '127.0.0.1', port }, clock: CLOCK }),
            )
            .then((server) => (back = server));
        } else if (!isGone && back !== null) press('q');
      },
      { isTerminal: true, screenSize: () => ({ columns: 100, rows: 40 }) },
    );
    expect(code).toBe(0);
    const gone = pictures.find((picture) => picture.includes('NO ANSWER')) ?? '';
    expect(gone).toContain('upstream  pg-a:5432');
    expect(gone).toMatch(/trying again; what is below is as old/);
    expect(pictures.at(-1)).not.toContain('NO ANSWER');
  });

  test('where there is no terminal that is a line on standard error', async () => {
    const { url, close } = await serving();
    let complaints = 0;
    let interrupt: () => void = () => {};
    const { code } = await watching(
      url,
      (_picture, how) => {
        interrupt = how.interrupt;
        void close();
      },
      {
        printError: (text: string) => {
          expect(text).toMatch(/^walcast status: no walcast answers at .*; trying again\n$/);
          if (++complaints === 2) interrupt();
        },
      },
    );
    expect([code, complaints]).toEqual([0, 2]);
  });

  test.each(['press', 'interrupt'] as const)(
    'a server that takes the question and hangs keeps nobody (%s)',
    async (how) => {
      const server = createServer();
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      onTestFinished(() => {
        server.closeAllConnections();
        server.close();
      });
      let stop: () => void = () => {};
      server.once('request', () => stop());
      const released: string[] = [];
      const { code, out } = await type(['status', '--watch', '--url', `http://127.0.0.1:${port}`], {
        isTerminal: true,
        onSignal: (listener: (name: HandledSignal) => void) => {
          if (how === 'interrupt') stop = () => listener('SIGINT');
          return () => void released.push('signals');
        },
        onKey: (listener: (key: string) => void) => {
          if (how === 'press') stop = () => listener('q');
          return () => void released.push('keys');
        },
      });
      expect([code, out, released]).toEqual([0, '', ['signals', 'keys']]);
    },
  );

  test('nobody there at first ends it', async () => {
    const { url, close } = await serving();
    await close();
    const { code, released } = await watching(url, () => {}, { isTerminal: true });
    expect([code, released]).toEqual([1, ['signals', 'keys']]);
  });
});
