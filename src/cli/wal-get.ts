// walcast wal get: fetches one WAL file from a running walcast, for restore_command. The target is there whole and durable,
// or not at all.
import { randomBytes } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { syncDirectory, writeFully } from '../base/durable-fs.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import { parseWalFileName } from '../pg/segment.ts';
import { isPageOf, parseFirstPage } from '../wal/wal-files.ts';
import { EXIT, SIGNAL_EXIT_CODES } from './command.ts';
import type { Command, CommandContext, HandledSignal } from './command.ts';
import { streamBody } from './http-client.ts';
import type { StreamedAnswer } from './http-client.ts';
import { refusalOf, REMOTE_OPTIONS, remoteOf, urlOf, WAL_TOKEN_FILE_VARIABLES } from './remote.ts';
import type { Remote } from './remote.ts';

/** What a server asks its restore_command for. */
const WANTED_NAME = /^(?:[0-9A-F]{24}(?:\.[0-9A-F]{8}\.backup|\.partial)?|[0-9A-F]{8}\.history)$/;
const SEGMENT_NAME = /^[0-9A-F]{24}$/;

/** As PostgreSQL makes the files of its data directory. */
const FILE_MODE = 0o600;

/** The largest wal_segment_size that a server can have. */
const FILE_BYTES_MAX = 1 << 30;

/** Bytes of a segment that are looked at before it gets its name. */
const HEAD_BYTES = 8192;

/** The command. */
export const walGetCommand: Command = {
  name: 'wal get',
  summary: 'Fetch a WAL segment or history file from a running walcast; made for restore_command.',
  operands: 'NAME FILE',
  options: REMOTE_OPTIONS,
  help: `
NAME is what the server asks for (%f), FILE where it wants it (%p). The file is written beside it under another name,
checked, fsynced and renamed: what is there is whole, whenever this is interrupted.

In postgresql.conf of a standby, or of a recovery to a point in time:
  restore_command = 'walcast wal get %f %p --url https://relay-a:9188 --token-file /etc/walcast/wal-token'

WAL is the whole database, so walcast gives it to nobody without a token: that of its http.wal_token_file, which opens
nothing else, or that of http.token_file. The file named here must be readable by the user that runs the server.
WALCAST_HTTP_WAL_TOKEN_FILE and WALCAST_HTTP_TOKEN_FILE name it where --token-file does not.

A segment that walcast still receives is not given: a standby gets the rest by streaming.

Exit codes: 0 the file is there; 1 it is not (walcast has not got it, or cannot be reached), which a server takes as "not
in the archive": a standby asks again, a recovery to a point in time ends there; 2 usage.

Examples:
  walcast wal get 000000010000000000000003 RECOVERYXLOG --token-file /etc/walcast/wal-token
  walcast wal get 00000002.history 00000002.history --url http://relay-a:9188 --token-file /etc/walcast/token
`,
  async run(context): Promise<number> {
    const request = requestOf(context);
    if (typeof request === 'string') {
      context.printError(`walcast wal get: ${request}\n`);
      return EXIT.usage;
    }
    const stop = new AbortController();
    let ended: HandledSignal | null = null;
    let release: () => void = () => {};
    release = context.onSignal((signal) => {
      if (signal === 'SIGHUP') return;
      ended = signal;
      stop.abort();
      release();
    });
    try {
      return await fetchFile(context, request, stop.signal);
    } catch (error) {
      if (ended === null) throw error;
      // A server that is stopped itself must see that: anything else means "not in the archive" to it.
      return SIGNAL_EXIT_CODES[ended];
    } finally {
      release();
    }
  },
};

async function fetchFile(
  context: CommandContext,
  { remote, name, target }: GetRequest,
  signal: AbortSignal,
): Promise<number> {
  const refusal = await streamBody(
    {
      url: urlOf(remote, `wal/${encodeURIComponent(name)}`),
      token: remote.token,
      tls: remote.tls,
      clock: remote.clock,
      signal,
    },
    (answer) => keep(answer, name, target),
  );
  if (refusal === null) return EXIT.ok;
  if (refusal.status !== 404) throw refusalOf(refusal);
  context.printError(`walcast wal get: ${name} is not stored by ${remote.base.origin}\n`);
  return EXIT.failure;
}

interface GetRequest {
  readonly remote: Remote;
  readonly name: string;
  readonly target: string;
}

function requestOf(context: CommandContext): GetRequest | string {
  const [name = '', file = '', more] = context.input.positionals;
  if (name === '' || file === '' || more !== undefined) {
    return 'give the name of a WAL file and where to put it';
  }
  if (!WANTED_NAME.test(name)) return `"${name}" is no name of a WAL file`;
  const remote = remoteOf(context, WAL_TOKEN_FILE_VARIABLES);
  if ('problem' in remote) return remote.problem;
  return { remote, name, target: resolve(context.workingDirectory, file) };
}

/** Writes the answer under a name of our own, and gives it its name when it is whole, right and durable. */
async function keep(answer: StreamedAnswer, name: string, target: string): Promise<void> {
  // Not the process id alone: in a container the next process may have the same, and a kill leaves its file behind.
  const temporary = `${target}.walcast-${process.pid}-${randomBytes(4).toString('hex')}`;
  const handle = await ofTarget(target, () => open(temporary, 'wx', FILE_MODE));
  try {
    try {
      await receive(answer, name, { target, handle });
      await ofTarget(target, () => handle.sync());
    } finally {
      await handle.close();
    }
    await ofTarget(target, () => rename(temporary, target));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await ofTarget(target, () => syncDirectory(dirname(target)));
}

async function receive(
  { length, chunks }: StreamedAnswer,
  name: string,
  { target, handle }: { readonly target: string; readonly handle: FileHandle },
): Promise<void> {
  const head = Buffer.alloc(HEAD_BYTES);
  // Whoever answers may not know an end: it must not fill the disk.
  const most = Math.min(length ?? FILE_BYTES_MAX, FILE_BYTES_MAX);
  let total = 0;
  for await (const chunk of chunks) {
    if (total < HEAD_BYTES) head.set(chunk.subarray(0, HEAD_BYTES - total), total);
    await ofTarget(target, () => writeFully(handle, chunk, total));
    total += chunk.byteLength;
    const isWal = total < HEAD_BYTES || parseFirstPage(head).kind === 'header';
    if (total > most || (SEGMENT_NAME.test(name) && !isWal)) break;
  }
  const isCut = length !== null && total < length;
  const problem =
    contentProblem(name, head.subarray(0, Math.min(total, HEAD_BYTES)), isCut ? null : total) ??
    (isCut || total > most ? `${total} bytes came of ${length ?? most}` : null);
  if (problem === null) return;
  throw new OperationalError('WAL_GET', `${name} is not what was asked for: ${problem}`);
}

/** What shows that the bytes are no segment of that name; null when nothing does. */
function contentProblem(name: string, head: Uint8Array, total: number | null): string | null {
  if (!SEGMENT_NAME.test(name)) return total === 0 ? 'it is empty' : null;
  const page = head.length === HEAD_BYTES ? parseFirstPage(head) : { kind: 'foreign' as const };
  if (page.kind !== 'header') return 'its first page is no WAL';
  const { segmentSize } = page.identity;
  if (total !== null && total !== segmentSize)
    return `it has ${total} bytes, a segment has ${segmentSize}`;
  const parsed = parseWalFileName(name, segmentSize);
  const isIt = parsed !== null && isPageOf(page, parsed.segment, segmentSize);
  return isIt ? null : 'its first page is of another segment';
}

/** Our own disk is not the network: its errors must not read as if nobody answered. */
async function ofTarget<T>(target: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new OperationalError('WAL_GET', `"${target}" cannot be written: ${errorText(error)}`, {
      cause: error,
    });
  }
}
