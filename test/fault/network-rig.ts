// One network, one fault after the other: what is done, when it is over, and how long everything took to be as before. The rows
// of docs/reliability.md are these lists.
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { expect } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openTopology } from '../harness/topology.ts';
import type { Topology } from '../harness/topology.ts';
import type { WriteLoad } from '../harness/write-load.ts';

/** Silence after which walcast, primary and standbys give a connection up. */
export const TIMEOUT_MS = 3_000;

const DOCUMENT = new URL('../../docs/reliability.md', import.meta.url);

/** One fault. */
export interface NetworkFault {
  /** Number of the fault list. */
  readonly fault: string;
  /** What is broken, as the table of docs/reliability.md says it. */
  readonly title: string;
  /** What has to happen, as the table says it. */
  readonly outcome: string;
  /** Breaks it. */
  readonly inject: (topology: Topology) => Promise<void>;
  /** Resolves when there is nothing more to see before it is mended. */
  readonly during?: (topology: Topology, load: WriteLoad) => Promise<void>;
  /** Absent: it was over with `inject`, or `during`. */
  readonly heal?: (topology: Topology) => Promise<void>;
  /** Sentences of the violations that are the fault itself. */
  readonly forgives?: RegExp;
}

/** What one fault took, in milliseconds. */
export interface FaultTimes {
  readonly fault: NetworkFault;
  /** From the injection to the healing. */
  readonly heldMs: number;
  /** The longest time without a commit that was acknowledged. */
  readonly stallMs: number;
  /** From the healing until commits return, all relays and standbys stream, and all have what was committed by then. */
  readonly recoveredMs: number;
}

/**
 * A primary whose commits wait for one of two relays; four standbys, each with both relays in its primary_conninfo, and a third
 * relay that has both, too.
 */
export async function openPair(major: number, network: 'host' | 'namespaces'): Promise<Topology> {
  const seconds = `${TIMEOUT_MS / 1_000}s`;
  const settings = {
    wal_sender_timeout: seconds,
    upstream: { wal_receiver_timeout: seconds, wal_receiver_status_interval: '1s' },
  };
  const conninfo = { connect_timeout: '2' };
  return await openTopology({
    major,
    network,
    proxies: network === 'host',
    segmentSizeMb: 1,
    primarySettings: {
      wal_sender_timeout: seconds,
      synchronous_commit: 'on',
      synchronous_standby_names: 'FIRST 1 (r1, r2)',
    },
    relays: [
      { name: 'r1', settings, conninfo },
      { name: 'r2', settings, conninfo },
      { name: 'r3', upstream: ['r1', 'r2'], settings, conninfo },
    ],
    standbys: ['s1', 's2', 's3', 's4'].map((name, index) => ({
      name,
      upstreams: index % 2 === 0 ? ['r1', 'r2'] : ['r2', 'r1'],
      hasSlot: index < 2,
      settings: {
        synchronous_standby_names: '',
        wal_receiver_timeout: seconds,
        wal_receiver_status_interval: '1s',
      },
    })),
  });
}

/** Breaks it, mends it, and looks at everything: bytes, rows, ledgers, logs. */
export async function live(topology: Topology, fault: NetworkFault): Promise<FaultTimes> {
  const load = await topology.startLoad(3, 20);
  await load.waitForCommits(20);
  load.takeLongestStall();
  const injectedAtMs = systemClock.nowMs();
  let healedAtMs = injectedAtMs;
  try {
    await fault.inject(topology);
    await fault.during?.(topology, load);
  } finally {
    // Also where it went wrong: the next fault finds a sound network.
    healedAtMs = systemClock.nowMs();
    await fault.heal?.(topology);
  }
  await recovered(topology, load);
  const recoveredAtMs = systemClock.nowMs();
  const times = {
    fault,
    heldMs: healedAtMs - injectedAtMs,
    stallMs: load.takeLongestStall(),
    recoveredMs: recoveredAtMs - healedAtMs,
  };
  const violations = await topology.violations(await topology.settle());
  expect(violations.filter((text) => fault.forgives?.test(text) !== true)).toEqual([]);
  return times;
}

async function recovered(topology: Topology, load: WriteLoad): Promise<void> {
  // Each writer has one commit under way that may be of before.
  await load.waitForCommits(7);
  const endLsn = await topology.primary.walPosition();
  await topology.streaming();
  await topology.reached(endLsn);
}

/** The times of one file's faults, by major. */
export class FaultTable {
  readonly #file: string;
  readonly #faults: readonly NetworkFault[];
  readonly #times = new Map<number, FaultTimes[]>();

  /** `file`: the test's name as the table has it. */
  constructor(file: string, faults: readonly NetworkFault[]) {
    this.#file = file;
    this.#faults = faults;
  }

  add(major: number, times: FaultTimes): void {
    this.#times.set(major, [...(this.#times.get(major) ?? []), times]);
  }

  /** Says what was measured; with WALCAST_TEST_UPDATE=1 it goes into docs/reliability.md, if every fault was. */
  async report(): Promise<void> {
    const rows = this.#faults.map((fault) => this.#row(fault));
    const measured = rows.filter((row) => row !== null);
    if (measured.length === 0) return;
    process.stderr.write(`${measured.join('\n')}\n`);
    if (process.env['WALCAST_TEST_UPDATE'] !== '1' || measured.length < rows.length) return;
    const text = await readFile(DOCUMENT, 'utf8');
    const [begin, end] = this.#marks();
    const [head, rest = ''] = text.split(begin);
    const tail = rest.split(end)[1];
    if (tail === undefined) throw new Error(`docs/reliability.md has no ${begin}`);
    const date = new Date().toISOString().slice(0, 10);
    const heading = [
      `Measured ${date} on PostgreSQL ${[...this.#times.keys()].join(' and ')}, on ${cpus().length} cores with a load of ${Math.round(loadavg()[1] ?? 0)}.`,
      '',
      '| fault | what happens | fault lasted | longest time without a commit | all well again after | test |',
      '|---|---|---|---|---|---|',
    ];
    await writeFile(
      DOCUMENT,
      [head, begin, '\n', [...heading, ...measured].join('\n'), '\n', end, tail].join(''),
    );
  }

  /** Faults that the table does not have, or has without a time. */
  async undocumented(): Promise<string[]> {
    const [begin, end] = this.#marks();
    const section = (await readFile(DOCUMENT, 'utf8')).split(begin)[1]?.split(end)[0] ?? '';
    const rows = section.split('\n');
    return this.#faults
      .map((fault) => `| ${nameOf(fault)} | ${fault.outcome} |`)
      .filter((start) => !rows.some((row) => row.startsWith(start) && /\d\.\d/.test(row)));
  }

  #marks(): [string, string] {
    return [`<!-- ${this.#file}: measured -->`, `<!-- end of ${this.#file} -->`];
  }

  #row(fault: NetworkFault): string | null {
    const all = [...this.#times.values()].flatMap((times) =>
      times.filter((each) => each.fault === fault),
    );
    if (all.length === 0) return null;
    const seconds = (ms: (times: FaultTimes) => number): string =>
      `${all.map((times) => (ms(times) / 1_000).toFixed(1)).join(', ')} s`;
    const cells = [
      nameOf(fault),
      fault.outcome,
      seconds(({ heldMs }) => heldMs),
      seconds(({ stallMs }) => stallMs),
      seconds(({ recoveredMs }) => recoveredMs),
      `fault/${this.#file}`,
    ];
    return `| ${cells.join(' | ')} |`;
  }
}

function nameOf({ fault, title }: NetworkFault): string {
  return `${fault} ${title}`;
}
