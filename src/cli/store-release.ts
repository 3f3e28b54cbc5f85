// walcast store release: lets go of WAL that lies behind a switch point, of a running walcast or of a store that no relay
// holds.
import { Value } from 'typebox/value';
import type { DeadWalJson, StoreDetailJson } from '../http/api-types.ts';
import { SCHEMAS } from '../http/schemas.ts';
import { deadWalJson } from '../http/status-json.ts';
import { loadControl } from '../wal/control-file.ts';
import { countDeadWal, releaseDeadWal } from '../wal/dead-wal.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { confirm, YES_OPTION } from './confirm.ts';
import { STORE_OPTIONS, storeDirectory, withStoreLock } from './offline-store.ts';
import { printable } from './plain-text.ts';
import {
  askRemote,
  badAnswer,
  JSON_OPTION,
  refusalOf,
  REMOTE_OPTIONS,
  remoteOf,
  URL_OPTION,
  urlOf,
} from './remote.ts';
import type { Remote } from './remote.ts';
import { sizeText } from '../base/human-text.ts';

const NAME = 'store release';
const STORE_PATH = 'api/v1/store';
const RELEASE_PATH = 'api/v1/store/release';

/** Where dead WAL is, and how it goes. */
interface Place {
  readonly name: string;
  look(): Promise<DeadWalJson>;
  release(): Promise<DeadWalJson>;
}

/** The command. */
export const releaseCommand: Command = {
  name: NAME,
  summary: 'Let go of WAL that lies behind the switch point of a timeline that was left.',
  options: [
    ...STORE_OPTIONS,
    { ...URL_OPTION, description: 'The HTTP port of the running walcast that has the store.' },
    ...REMOTE_OPTIONS.filter((option) => option !== URL_OPTION),
    YES_OPTION,
    JSON_OPTION,
  ],
  help: `
Where a server was promoted that did not have everything, what walcast has beyond is on no timeline any more. It is kept in
the directory "dead" of the store, as segments, and never served: commits in it may have been told to be safe. Look into it
with pg_waldump first. This command says which LSNs and how many bytes it is, asks, and removes the files.

With --url a running walcast is asked, which needs its token. With --data or -c, no walcast may run on the store.

Exit codes: 0 done, or nothing was there; 1 failed, or the answer was no; 2 usage; 78 bad configuration.

Examples:
  walcast store release --url http://relay-a:9188 --token-file /etc/walcast/token
  walcast store release --data /var/lib/walcast --yes
`,
  async run(context): Promise<number> {
    const [extra] = context.input.positionals;
    if (extra !== undefined) return usage(context, `"${extra}" is not expected here`);
    if (!isSet(context.input, URL_OPTION.name)) {
      const directory = storeDirectory(context, NAME);
      if (typeof directory === 'number') return directory;
      return await withStoreLock(directory, () => release(context, directoryPlace(directory)));
    }
    if (STORE_OPTIONS.some(({ name }) => isSet(context.input, name))) {
      return usage(context, 'give either --url or a directory');
    }
    const remote = remoteOf(context);
    if ('problem' in remote) return usage(context, remote.problem);
    return await release(context, remotePlace(remote));
  },
};

async function release(context: CommandContext, place: Place): Promise<number> {
  const there = await place.look();
  const isJson = isSet(context.input, JSON_OPTION.name);
  if (there.files === 0 && there.acknowledged === null) {
    context.print(isJson ? `${JSON.stringify(there)}\n` : `${place.name}: there is no dead WAL\n`);
    return EXIT.ok;
  }
  const what = `${place.name}: ${deadText(there)}\n`;
  const refused = await confirm(context, NAME, `${what}Remove it?`);
  if (refused !== null) return refused;
  const gone = await place.release();
  context.print(isJson ? `${JSON.stringify(gone)}\n` : `${what}${gone.files} files were removed\n`);
  return EXIT.ok;
}

function directoryPlace(directory: string): Place {
  return {
    name: printable(directory),
    async look() {
      const acknowledged = (await loadControl(directory))?.acknowledgedBeyond ?? null;
      return deadWalJson({ ...(await countDeadWal(directory)), acknowledged });
    },
    release: async () => deadWalJson(await releaseDeadWal(directory)),
  };
}

function remotePlace(remote: Remote): Place {
  return {
    name: printable(remote.base.href),
    async look() {
      const answer = await askRemote(remote, STORE_PATH);
      if (answer.status !== 200) throw refusalOf(answer);
      const store: unknown = Value.Clean(SCHEMAS.storeDetail, answer.body);
      if (!isStore(store)) throw badAnswer(urlOf(remote, STORE_PATH), 'a store');
      return store.dead;
    },
    async release() {
      const answer = await askRemote(remote, RELEASE_PATH, { method: 'POST' });
      if (answer.status !== 200) throw refusalOf(answer);
      const gone: unknown = Value.Clean(SCHEMAS.deadWal, answer.body);
      if (!isDeadWal(gone)) throw badAnswer(urlOf(remote, RELEASE_PATH), 'what was removed');
      return gone;
    },
  };
}

function deadText({ files, bytes, acknowledged }: DeadWalJson): string {
  const what = `${files} files with ${sizeText(bytes)} of WAL from behind a switch point`;
  if (acknowledged === null) return `${what}; none of it had been acknowledged to the upstream`;
  const { timeline, switch_lsn: from, reported_flush_lsn: until } = acknowledged;
  return (
    `${what}; timeline ${timeline} was left at ${from}, and WAL up to ${until} had been acknowledged: ` +
    `${acknowledged.bytes} bytes with commits that were told to be safe and are on no timeline any more`
  );
}

function usage(context: CommandContext, text: string): number {
  context.printError(`walcast ${NAME}: ${text}\n`);
  return EXIT.usage;
}

function isStore(value: unknown): value is StoreDetailJson {
  return Value.Check(SCHEMAS.storeDetail, value);
}

function isDeadWal(value: unknown): value is DeadWalJson {
  return Value.Check(SCHEMAS.deadWal, value);
}
