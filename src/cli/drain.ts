// walcast drain: has a running walcast serve everybody to the end and stop, and waits until it is gone.
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { StatusJson } from '../http/api-types.ts';
import { EXIT, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { askRemote, refusalOf, REMOTE_OPTIONS, remoteOf, remoteStatus } from './remote.ts';
import type { Remote } from './remote.ts';
import { sizeText } from '../base/human-text.ts';

const POLL_MS = 500;

/** Requests in a row that nobody answers, after which nobody is there. */
const FAILURES_OF_ABSENCE = 2;

const LINE_MS = 10_000;
const TIMEOUT_SECONDS_DEFAULT = 600;

/** The command. */
export const drainCommand: Command = {
  name: 'drain',
  summary: 'Let a running walcast serve every standby to the end and stop; wait until it is gone.',
  options: [
    {
      name: 'timeout',
      placeholder: 'SECONDS',
      description: `Stop waiting after this long (default ${TIMEOUT_SECONDS_DEFAULT}); walcast goes on draining.`,
    },
    ...REMOTE_OPTIONS,
  ],
  help: `
The same as SIGTERM to the process: nothing new is taken in, every standby gets what is there and confirms it, within
drain_timeout of walcast's configuration. Ctrl-C stops the waiting, not the draining.

Exit codes: 0 it is gone; 1 it refused, was not there, or is there still; 2 usage.

Examples:
  walcast drain --token-file /etc/walcast/token
  walcast drain --url http://relay-a:9188 --timeout 60
`,
  async run(context): Promise<number> {
    const remote = remoteOf(context);
    const seconds = optionValue(context.input, 'timeout') ?? String(TIMEOUT_SECONDS_DEFAULT);
    const problem =
      'problem' in remote
        ? remote.problem
        : /^[1-9]\d{0,5}$/.test(seconds)
          ? null
          : '--timeout takes a whole number of seconds';
    if (problem !== null || 'problem' in remote) {
      context.printError(`walcast drain: ${problem ?? ''}\n`);
      return EXIT.usage;
    }
    const answer = await askRemote(remote, 'api/v1/drain', { method: 'POST' });
    if (answer.status < 200 || answer.status > 299) throw refusalOf(answer);
    return await waitUntilGone(context, remote, Number(seconds) * 1000);
  },
};

async function waitUntilGone(
  context: CommandContext,
  remote: Remote,
  timeoutMs: number,
): Promise<number> {
  const { clock } = context;
  const output = new DrainOutput(context);
  const startMs = clock.nowMs();
  let isInterrupted = false;
  let failures = 0;
  const release = context.onSignal((signal) => {
    isInterrupted = signal !== 'SIGHUP';
  });
  try {
    let startedAt: string | null = null;
    for (;;) {
      const answer = await statusOf(remote);
      failures = answer === null ? failures + 1 : 0;
      const status = answer === 'ending' ? null : answer;
      startedAt ??= status?.started_at ?? null;
      // Whoever supervises it may have started another one already.
      const isAnother = status !== null && status.started_at !== startedAt;
      // One request may fail for other reasons.
      if (isAnother || failures === FAILURES_OF_ABSENCE) {
        output.end();
        context.print('walcast is gone\n');
        return EXIT.ok;
      }
      if (status !== null) output.show(status);
      const isLate = clock.nowMs() - startMs >= timeoutMs;
      if (isLate || isInterrupted) {
        output.end();
        context.printError('walcast drain: it is draining still\n');
        return EXIT.failure;
      }
      await delay(clock, POLL_MS);
    }
  } finally {
    release();
  }
}

/** Null when nobody answers; `ending` when it answers no more questions, and is there still. */
async function statusOf(remote: Remote): Promise<StatusJson | 'ending' | null> {
  try {
    return await remoteStatus(remote);
  } catch (error) {
    const code = error instanceof OperationalError ? error.code : null;
    if (code === 'UNREACHABLE') return null;
    if (code === 'SHUTTING_DOWN') return 'ending';
    throw error;
  }
}

/** One updating line on a terminal, else a line every ten seconds. */
class DrainOutput {
  readonly #context: CommandContext;
  readonly #isTerminal: boolean;
  #lineAtMs: number;
  #isShown = false;

  constructor(context: CommandContext) {
    this.#context = context;
    this.#isTerminal = context.isErrorTerminal === true;
    this.#lineAtMs = context.clock.nowMs();
  }

  show({ standbys }: StatusJson): void {
    const behind = standbys.reduce((sum, { lag_bytes: lag }) => sum + (lag ?? 0), 0);
    const text = `draining: ${standbys.length} standbys connected, ${sizeText(behind)} behind in all`;
    if (this.#isTerminal) {
      this.#context.printError(`\r\x1b[2K${text}\r`);
      this.#isShown = true;
      return;
    }
    const nowMs = this.#context.clock.nowMs();
    if (nowMs - this.#lineAtMs < LINE_MS) return;
    this.#lineAtMs = nowMs;
    this.#context.printError(`${text}\n`);
  }

  end(): void {
    if (this.#isShown) this.#context.printError('\r\x1b[2K');
  }
}

function delay(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.setTimer(ms, resolve);
  });
}
