// What does a running walcast hold: memory, descriptors, timers, listeners? Asked from outside, of the compiled program.
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { RelayOptions, WalcastRelay } from '../harness/walcast-process.ts';

const PROBE = fileURLToPath(new URL('resource-probe.mjs', import.meta.url));
const ANSWER_MS_MAX = 20_000;

/** What a process holds at one moment, garbage collected. */
export interface ResourceUse {
  /** Resident set, in bytes. */
  readonly rss: number;
  /** Used part of the JavaScript heap of the main thread, in bytes. */
  readonly heapUsed: number;
  /** Memory outside of the heap that objects hold, in bytes. */
  readonly external: number;
  /** Open file descriptors. */
  readonly descriptors: number;
  readonly timers: number;
  /** TCP connections. */
  readonly sockets: number;
  /** Listeners of the process and of everything that keeps it alive. */
  readonly listeners: number;
}

/** Options of a relay that can be asked with {@link resourceUse}. */
export function probed(
  workspace: Workspace,
  name: string,
): Pick<RelayOptions, 'nodeArguments' | 'environment'> {
  return {
    nodeArguments: ['--expose-gc', '--import', PROBE],
    environment: { WALCAST_TEST_PROBE: join(workspace.directory, `${name}.probe.json`) },
  };
}

/** Asks a relay that was made with {@link probed}. Linux. */
export async function resourceUse(workspace: Workspace, relay: WalcastRelay): Promise<ResourceUse> {
  const file = join(workspace.directory, `${relay.name}.probe.json`);
  await rm(file, { force: true });
  relay.process.signal('SIGUSR2');
  const text = await pollUntil(
    `an answer of ${relay.name}`,
    () => readFile(file, 'utf8').catch(() => null),
    { timeoutMs: ANSWER_MS_MAX },
  );
  const answer = JSON.parse(text) as Omit<ResourceUse, 'descriptors' | 'timers' | 'sockets'> & {
    readonly resources: Readonly<Record<string, number>>;
  };
  const { resources, rss, heapUsed, external, listeners } = answer;
  return {
    rss,
    heapUsed,
    external,
    listeners,
    descriptors: (await readdir(`/proc/${relay.process.pid}/fd`)).length,
    timers: resources['Timeout'] ?? 0,
    sockets: resources['TCPSocketWrap'] ?? 0,
  };
}
