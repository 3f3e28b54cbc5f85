// A base backup into an empty directory, taken over the replication protocol as pg_basebackup takes it with
// `-X fetch`: the npm servers come without that program, and the demo shows that the relay hands the command through.
// (basebackup.c:SendBaseBackup, basebackup_copy.c, pg_basebackup.c:BaseBackup)
import type { ChildProcess } from 'node:child_process';
import { OperationalError } from '../base/errors.ts';
import { parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { versionFacts } from '../pg/server-version.ts';
import { encodeQuery } from '../wire/frontend-messages.ts';
import { connectPostgres } from './postgres-connect.ts';
import type { ConnectTarget, PostgresClient } from './postgres-connect.ts';
import { spawnCommand } from './postgres-user.ts';
import type { ServerUser } from './postgres-user.ts';

/** What to back up, and where to. */
export interface BaseBackupOptions {
  readonly source: ConnectTarget;
  /** Major of the server: the command and the stream changed their form with 15. */
  readonly major: number;
  /** An existing empty directory that belongs to `user`. */
  readonly directory: string;
  /** As whom the files are written; null for ourselves. */
  readonly user: ServerUser | null;
  /** Called after each piece with the bytes of the archive so far. */
  readonly onProgress?: (bytesDone: number) => void;
}

/** Where a backup begins and ends; replay has to reach `endLsn` before it is consistent. */
export interface BaseBackupResult {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly timeline: number;
  readonly bytes: number;
}

const STDERR_CHARS_MAX = 4_000;

/**
 * Takes the backup, with the WAL it needs inside. Rejects with OperationalError when the server refuses, has
 * tablespaces besides the default ones, or the archive cannot be unpacked; the directory then holds a useless part.
 */
export async function takeBaseBackup(options: BaseBackupOptions): Promise<BaseBackupResult> {
  const client = await connectPostgres({ ...options.source, replication: true });
  try {
    client.send(encodeQuery(baseBackupCommand(options.major)));
    const [startText = '', timelineText = ''] = await oneRow(client);
    await expectNoTablespaces(client);
    const bytes = await unpackArchive(client, options);
    const [endText = ''] = await oneRow(client);
    await untilReady(client);
    return {
      startLsn: lsnOf(startText),
      endLsn: lsnOf(endText),
      timeline: Number(timelineText),
      bytes,
    };
  } finally {
    client.close();
  }
}

function baseBackupCommand(major: number): string {
  return versionFacts(major).hasParenthesizedOptions
    ? "BASE_BACKUP ( LABEL 'walcast', CHECKPOINT 'fast', WAL, MANIFEST 'no' )"
    : "BASE_BACKUP LABEL 'walcast' FAST WAL MANIFEST 'no'";
}

/** Reads one result set of one row up to its CommandComplete. */
async function oneRow(client: PostgresClient): Promise<string[]> {
  const rows = await resultSet(client);
  const [row] = rows;
  if (rows.length !== 1 || row === undefined) {
    throw new OperationalError(
      'BASE_BACKUP',
      `one row expected in the answer to BASE_BACKUP, got ${rows.length}`,
    );
  }
  return row;
}

async function resultSet(client: PostgresClient): Promise<string[][]> {
  const rows: string[][] = [];
  for (;;) {
    const message = await client.next();
    if (message.type === 'CommandComplete') return rows;
    if (message.type === 'DataRow') {
      rows.push(
        message.values.map((value) => (value === null ? '' : Buffer.from(value).toString())),
      );
    } else if (message.type !== 'RowDescription') {
      throw client.unexpected(message);
    }
  }
}

async function expectNoTablespaces(client: PostgresClient): Promise<void> {
  const tablespaces = await resultSet(client);
  const extra = tablespaces.find(([oid]) => oid !== '');
  if (extra === undefined) return;
  throw new OperationalError('BASE_BACKUP', `the server has a tablespace in ${extra[1] ?? '?'}`, {
    hint: 'This backup keeps to the data directory; use pg_basebackup for a server with tablespaces.',
  });
}

/** Feeds the one archive of the copy to `tar`. Returns its length in bytes. */
async function unpackArchive(client: PostgresClient, options: BaseBackupOptions): Promise<number> {
  const opening = await client.next();
  if (opening.type !== 'CopyOutResponse') throw client.unexpected(opening);
  const tar = spawnCommand('tar', ['-x', '-C', options.directory, '-f', '-'], {
    user: options.user,
    cwd: options.directory,
  });
  const ended = endOfTar(tar);
  try {
    const bytes = await copyInto(tar, client, { ended, options });
    tar.stdin?.end();
    await ended;
    return bytes;
  } catch (error) {
    tar.kill('SIGKILL');
    throw error;
  }
}

async function copyInto(
  tar: ChildProcess,
  client: PostgresClient,
  { ended, options }: { ended: Promise<void>; options: BaseBackupOptions },
): Promise<number> {
  const hasTypeByte = versionFacts(options.major).hasParenthesizedOptions;
  let bytes = 0;
  for (;;) {
    const message = await client.next();
    if (message.type === 'CopyDone') return bytes;
    if (message.type !== 'CopyData') throw client.unexpected(message);
    const piece = archivePiece(message.data, hasTypeByte);
    if (piece === null) continue;
    bytes += piece.length;
    await feed(tar, piece, ended);
    options.onProgress?.(bytes);
  }
}

/** The archive's bytes in one CopyData, null when it carries none. Types (≥ 15): n archive begins, d data, p progress, m manifest. */
function archivePiece(data: Uint8Array, hasTypeByte: boolean): Uint8Array | null {
  if (!hasTypeByte) return data;
  return data[0] === 0x64 ? data.subarray(1) : null;
}

/** Hands `piece` to tar; settles when it took it. */
function feed(tar: ChildProcess, piece: Uint8Array, ended: Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.stdin?.write(piece, (error) => {
      // When tar gives up, its input breaks first; what it says at its end is the better reason.
      if (error === null || error === undefined) resolve();
      else ended.then(resolve, reject);
    });
  });
}

function endOfTar(tar: ChildProcess): Promise<void> {
  let complaints = '';
  tar.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(0, STDERR_CHARS_MAX);
  });
  tar.stdout?.resume();
  // A tar that gave up closes its input; its exit code says more than our EPIPE.
  tar.stdin?.on('error', () => {});
  const ended = new Promise<void>((resolve, reject) => {
    tar.once('error', reject);
    tar.once('close', (exitCode) => {
      if (exitCode === 0) resolve();
      else
        reject(
          new OperationalError('BASE_BACKUP', `tar failed (exit code ${exitCode}): ${complaints}`),
        );
    });
  });
  ended.catch(() => {});
  return ended;
}

async function untilReady(client: PostgresClient): Promise<void> {
  for (;;) {
    const message = await client.next();
    if (message.type === 'ReadyForQuery') return;
    if (message.type !== 'CommandComplete') throw client.unexpected(message);
  }
}

function lsnOf(text: string): Lsn {
  const lsn = parseLsn(text);
  if (lsn === null) throw new OperationalError('BASE_BACKUP', `"${text}" is no position`);
  return lsn;
}
