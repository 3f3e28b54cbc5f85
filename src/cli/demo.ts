// walcast demo: shows the whole thing at work on this machine, with real PostgreSQL servers.
import { SUPPORTED_MAJORS } from '../pg/server-version.ts';
import { runDemo } from '../demo/demo.ts';
import { EXIT, isSet, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';

const STANDBYS_DEFAULT = 2;
const STANDBYS_MAX = 16;
const MAJOR_DEFAULT = 18;
const SECONDS_MAX = 86_400;

/** The command. */
export const demoCommand: Command = {
  name: 'demo',
  summary: 'Show walcast at work: a real primary, walcast, and standbys seeded through it.',
  options: [
    {
      name: 'standbys',
      placeholder: 'N',
      description: `How many standbys to seed, 1 to ${STANDBYS_MAX} (default ${STANDBYS_DEFAULT}).`,
    },
    {
      name: 'postgres',
      placeholder: 'MAJOR',
      values: SUPPORTED_MAJORS.map(String),
      description: `PostgreSQL major version (default ${MAJOR_DEFAULT}).`,
    },
    {
      name: 'for',
      placeholder: 'SECONDS',
      description: 'Run this long, then check every standby; without it, until Ctrl-C.',
    },
    { name: 'json', description: 'Print one JSON object at the end and nothing else.' },
  ],
  help: `
Everything runs on 127.0.0.1 in a temporary directory and is removed at the end. As root, PostgreSQL runs as an
unprivileged user. Servers come from the npm packages of a clone, else from the system.

At the end the writer stops, and the exit code is 0 only if every standby has replayed everything and gives the same
rows as the primary.

Examples:
  walcast demo
  walcast demo --standbys 4 --postgres 15
  walcast demo --for 20 --json
`,
  async run(context): Promise<number> {
    const request = readRequest(context);
    if (typeof request === 'string') {
      context.printError(`walcast demo: ${request}\n`);
      return EXIT.usage;
    }
    const stop = new AbortController();
    const release = context.onSignal((signal) => {
      if (signal !== 'SIGHUP') stop.abort();
    });
    try {
      const result = await runDemo({
        ...request,
        output: { isTTY: context.isTerminal, write: (text) => context.print(text) },
        signal: stop.signal,
      });
      if (request.json) context.print(`${JSON.stringify(result)}\n`);
      return result.ok ? EXIT.ok : EXIT.failure;
    } finally {
      release();
    }
  },
};

interface DemoRequest {
  readonly standbys: number;
  readonly major: number;
  readonly seconds: number | null;
  readonly json: boolean;
}

/** The request, or what is wrong with it. */
function readRequest({ input }: CommandContext): DemoRequest | string {
  const standbys = wholeNumber(optionValue(input, 'standbys') ?? String(STANDBYS_DEFAULT));
  if (standbys === null || standbys < 1 || standbys > STANDBYS_MAX) {
    return `--standbys takes a whole number from 1 to ${STANDBYS_MAX}`;
  }
  const major = wholeNumber(optionValue(input, 'postgres') ?? String(MAJOR_DEFAULT));
  if (major === null || !SUPPORTED_MAJORS.includes(major)) {
    return `--postgres takes one of ${SUPPORTED_MAJORS.join(', ')}`;
  }
  const given = optionValue(input, 'for');
  const seconds = given === null ? null : wholeNumber(given);
  if (given !== null && (seconds === null || seconds < 1 || seconds > SECONDS_MAX)) {
    return `--for takes a whole number of seconds from 1 to ${SECONDS_MAX}`;
  }
  return { standbys, major, seconds, json: isSet(input, 'json') };
}

function wholeNumber(text: string): number | null {
  return /^\d{1,6}$/.test(text) ? Number(text) : null;
}
