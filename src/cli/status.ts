// walcast status: what a running relay says about itself, once or again and again.
import type { Clock } from '../base/clock.ts';
import { STATUS_WATCH_MS } from '../config/limits.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { getJson } from './http-client.ts';
import { REMOTE_OPTIONS, remoteOf, remoteStatus, urlOf } from './remote.ts';
import type { Remote } from './remote.ts';
import { statusView } from './status-view.ts';

const CLEAR_SCREEN = '\x1b[H\x1b[2J';

/** The command. */
export const statusCommand: Command = {
  name: 'status',
  summary: 'Show upstream, store and standbys of a running walcast.',
  options: [
    ...REMOTE_OPTIONS,
    {
      name: 'watch',
      short: 'w',
      description: 'Show it again every two seconds until interrupted.',
    },
    {
      name: 'json',
      description: 'Print the answer of /api/v1/status as it is; one line each with --watch.',
    },
  ],
  help: `
Exit code 1 when no walcast answers.

Examples:
  walcast status
  walcast status --watch
  walcast status --url http://relay-a:9188 --json
`,
  async run(context): Promise<number> {
    const remote = remoteOf(context);
    if ('problem' in remote) {
      context.printError(`walcast status: ${remote.problem}\n`);
      return EXIT.usage;
    }
    if (!isSet(context.input, 'watch')) {
      context.print(await statusText(context, remote));
      return EXIT.ok;
    }
    return watch(context, remote);
  },
};

async function watch(context: CommandContext, remote: Remote): Promise<number> {
  let stop: () => void = () => {};
  const stopped = new Promise<'stopped'>((resolve) => {
    stop = () => resolve('stopped');
  });
  const release = context.onSignal(stop);
  try {
    for (;;) {
      const text = await statusText(context, remote);
      const isScreen = context.isTerminal && !isSet(context.input, 'json');
      context.print(isScreen ? CLEAR_SCREEN + text : text);
      const next = await Promise.race([stopped, delay(context.clock, STATUS_WATCH_MS)]);
      if (next === 'stopped') return EXIT.ok;
    }
  } finally {
    release();
  }
}

async function statusText({ input }: CommandContext, remote: Remote): Promise<string> {
  if (!isSet(input, 'json')) return statusView(await remoteStatus(remote), remote.clock.wallMs());
  const answer = await getJson({ ...remote, url: urlOf(remote, 'api/v1/status') });
  return `${JSON.stringify(answer)}\n`;
}

function delay(clock: Clock, ms: number): Promise<'elapsed'> {
  return new Promise((resolve) => {
    clock.setTimer(ms, () => resolve('elapsed'));
  });
}
