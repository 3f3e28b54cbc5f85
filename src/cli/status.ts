// walcast status: what a running relay says about itself, once or again and again.
import { Value } from 'typebox/value';
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import { STATUS_WATCH_MS } from '../config/limits.ts';
import { settingOf } from '../config/settings.ts';
import type { StatusJson } from '../http/api-types.ts';
import { SCHEMAS } from '../http/schemas.ts';
import { EXIT, isSet, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { getJson } from './http-client.ts';
import { statusView } from './status-view.ts';

const DEFAULT_URL = `http://${settingOf('http.listen')?.defaultText ?? ''}`;

const CLEAR_SCREEN = '\x1b[H\x1b[2J';

/** The command. */
export const statusCommand: Command = {
  name: 'status',
  summary: 'Show upstream, store and standbys of a running walcast.',
  options: [
    {
      name: 'url',
      placeholder: 'URL',
      description: `Where its HTTP port is; ${DEFAULT_URL} when not given.`,
    },
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
    const url = statusUrl(optionValue(context.input, 'url') ?? DEFAULT_URL);
    if (url === null) {
      context.printError('walcast status: --url needs a URL such as http://127.0.0.1:9188\n');
      return EXIT.usage;
    }
    if (!isSet(context.input, 'watch')) {
      context.print(await statusText(context, url));
      return EXIT.ok;
    }
    return watch(context, url);
  },
};

async function watch(context: CommandContext, url: URL): Promise<number> {
  let stop: () => void = () => {};
  const stopped = new Promise<'stopped'>((resolve) => {
    stop = () => resolve('stopped');
  });
  const release = context.onSignal(stop);
  try {
    for (;;) {
      const text = await statusText(context, url);
      const isScreen = context.isTerminal && !isSet(context.input, 'json');
      context.print(isScreen ? CLEAR_SCREEN + text : text);
      const next = await Promise.race([stopped, delay(context.clock, STATUS_WATCH_MS)]);
      if (next === 'stopped') return EXIT.ok;
    }
  } finally {
    release();
  }
}

async function statusText({ input, clock }: CommandContext, url: URL): Promise<string> {
  const answer = await getJson(url, clock);
  if (isSet(input, 'json')) return `${JSON.stringify(answer)}\n`;
  const status: unknown = Value.Clean(SCHEMAS.status, answer);
  if (isStatus(status)) return statusView(status);
  throw new OperationalError('BAD_ANSWER', `${url.href} answered something else than a status`, {
    hint: 'Is it a walcast, and of this version?',
  });
}

function isStatus(value: unknown): value is StatusJson {
  return Value.Check(SCHEMAS.status, value);
}

function statusUrl(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) return null;
  return new URL('api/v1/status', url.href.endsWith('/') ? url : `${url.href}/`);
}

function delay(clock: Clock, ms: number): Promise<'elapsed'> {
  return new Promise((resolve) => {
    clock.setTimer(ms, () => resolve('elapsed'));
  });
}
