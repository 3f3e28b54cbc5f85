// walcast status: what a running relay says about itself, once or again and again.
import { EXIT, isSet } from './command.ts';
import type { Command } from './command.ts';
import { getJson } from './http-client.ts';
import { REMOTE_OPTIONS, remoteOf, remoteStatus, urlOf } from './remote.ts';
import type { Remote } from './remote.ts';
import { statusView } from './status-view.ts';
import { watch } from './status-watch.ts';
import type { Asking } from './status-watch.ts';

/** The command. */
export const statusCommand: Command = {
  name: 'status',
  summary: 'Show upstream, store and standbys of a running walcast, and what is the matter.',
  options: [
    ...REMOTE_OPTIONS,
    {
      name: 'watch',
      short: 'w',
      description: 'Show it again every two seconds until interrupted; q ends it, too.',
    },
    {
      name: 'json',
      description: 'Print the answer of /api/v1/status as it is; one line each with --watch.',
    },
  ],
  help: `
What is the matter comes first, each with what to do next; the standby that is furthest behind is the first of its
table. With --watch on a terminal the picture fits into it: columns and rows that say least are left out. A walcast that
stops answering is asked again until it is back. NO_COLOR in the environment leaves colours out.

Exit code 1 when no walcast answers at first.

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
    const isJson = isSet(context.input, 'json');
    const ask = isJson ? askingJson(remote) : asking(remote);
    if (isSet(context.input, 'watch')) {
      return await watch(context, { ask, isScreen: context.isTerminal && !isJson });
    }
    const draw = await ask();
    context.print(draw({ columns: null, rows: null }));
    return EXIT.ok;
  },
};

function asking(remote: Remote): Asking {
  return async () => {
    const status = await remoteStatus(remote);
    return (room) => statusView(status, room);
  };
}

function askingJson(remote: Remote): Asking {
  return async () => {
    const answer = await getJson({ ...remote, url: urlOf(remote, 'api/v1/status') });
    const line = `${jsonForTerminals(answer)}\n`;
    return () => line;
  };
}

/** One line of JSON. What is left unescaped there is as good as an escape sequence to some terminals (ECMA-48, C1). */
function jsonForTerminals(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\x7f-\x9f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
