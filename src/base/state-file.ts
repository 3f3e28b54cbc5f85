// How is small state kept so that a crash leaves the old or the new, and so that a person can read it? A text file:
// a line that names kind and version, JSON, and a last line with the CRC-32C of everything before it. It is replaced
// as a whole, never changed in place: written beside it, fsynced, renamed, directory fsynced. So no crash tears it, and a
// torn one was changed by something else or lost by the disk. It is refused aloud then. No copy of the one before is kept:
// positions in it would be older than what was promised since, and nobody could tell that it is not the newest.
// Upgrade: a newer walcast reads the versions that older ones wrote and writes its own; an older walcast refuses a newer
// file by name and changes nothing.
import { readFile } from 'node:fs/promises';
import { crc32c } from './crc32c.ts';
import { replaceFile } from './durable-fs.ts';
import { OperationalError, systemErrorCode } from './errors.ts';

/** What a file must say in its first line. */
export interface StateFileKind {
  /** One word, for example `walcast-control`. */
  readonly magic: string;
  /** The version that is written. */
  readonly version: number;
  /**
   * The oldest version that is still read; default {@link version} alone. The reader is told which one the body is of and
   * has to bring an older one up to date. A newer version is refused, never guessed at.
   */
  readonly oldestVersion?: number;
}

/** What a state file held. */
export interface StateFileContent {
  /** Any JSON value, unchecked. */
  readonly body: unknown;
  /** The version it was written as, between {@link StateFileKind.oldestVersion} and {@link StateFileKind.version}. */
  readonly version: number;
}

/** A state file above this size is none of ours. */
export const STATE_FILE_BYTES_MAX: number = 1 << 20;

const CHECKSUM_LINE_LENGTH = 'crc32c 00000000\n'.length;

/** The bytes of the file that holds `body`, any JSON value. */
export function encodeStateFile(kind: StateFileKind, body: unknown): Uint8Array {
  const text = `${kind.magic} ${kind.version}\n${JSON.stringify(body, null, 2)}\n`;
  const content = Buffer.from(text, 'utf8');
  return Buffer.concat([content, Buffer.from(checksumLine(content), 'latin1')]);
}

/** What stands in `bytes`, or a sentence that says why it cannot be read. */
export function decodeStateFile(kind: StateFileKind, bytes: Uint8Array): StateFileContent | string {
  const decoded = decode(kind, bytes);
  return 'problem' in decoded ? decoded.problem : decoded;
}

interface Unreadable {
  readonly problem: string;
  /** Whole, but of a version that this program does not know. */
  readonly isOtherVersion: boolean;
}

function decode(kind: StateFileKind, bytes: Uint8Array): StateFileContent | Unreadable {
  if (bytes.length > STATE_FILE_BYTES_MAX) {
    return damaged(`it is larger than ${STATE_FILE_BYTES_MAX} bytes`);
  }
  if (bytes.length < CHECKSUM_LINE_LENGTH) return damaged('it is too short');
  const content = bytes.subarray(0, bytes.length - CHECKSUM_LINE_LENGTH);
  const lastLine = Buffer.from(bytes.subarray(content.length)).toString('latin1');
  if (lastLine !== checksumLine(content)) return damaged('its checksum does not match its content');
  const text = Buffer.from(content).toString('utf8');
  const end = text.indexOf('\n');
  const firstLine = text.slice(0, end);
  const [, magic = '', digits = ''] = /^(\S+) (\d{1,9})$/.exec(firstLine) ?? [];
  const version = Number(digits);
  const { oldestVersion = kind.version } = kind;
  if (magic !== kind.magic || version < oldestVersion || version > kind.version) {
    const wanted = `${kind.magic} ${kind.version}`;
    const problem = `it says "${firstLine.slice(0, 80)}", wanted is "${wanted}"`;
    return { problem, isOtherVersion: magic === kind.magic };
  }
  try {
    return { body: JSON.parse(text.slice(end + 1)) as unknown, version };
  } catch {
    return damaged('it holds no JSON');
  }
}

function damaged(problem: string): Unreadable {
  return { problem, isOtherVersion: false };
}

/** Replaces the file at `path`; durable when it resolves. Two saves of one path must not overlap. */
export function saveStateFile(path: string, kind: StateFileKind, body: unknown): Promise<void> {
  return replaceFile(path, encodeStateFile(kind, body));
}

/**
 * What stands in the file; null when there is no such file. Throws OperationalError: STATE_FILE_DAMAGED, or
 * STATE_FILE_VERSION when it is whole but another version of walcast wrote it.
 */
export async function loadStateFile(
  path: string,
  kind: StateFileKind,
): Promise<StateFileContent | null> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (bytes === null) return null;
  const decoded = decode(kind, bytes);
  if (!('problem' in decoded)) return decoded;
  const { problem, isOtherVersion } = decoded;
  if (isOtherVersion) {
    throw new OperationalError(
      'STATE_FILE_VERSION',
      `the file "${path}" was written by another version of walcast: ${problem}`,
      { hint: 'Nothing was changed. Start the version of walcast that wrote it, or a newer one.' },
    );
  }
  throw new OperationalError('STATE_FILE_DAMAGED', `the file "${path}" is damaged: ${problem}`, {
    hint: 'It was changed by something else than walcast, or the disk lost it: look at the disk before anything else.',
  });
}

function checksumLine(content: Uint8Array): string {
  return `crc32c ${crc32c(content).toString(16).padStart(8, '0')}\n`;
}
