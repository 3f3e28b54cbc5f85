// How is small state kept so that a crash leaves the old or the new, and so that a person can read it? A text file:
// a line that names kind and version, JSON, and a last line with the CRC-32C of everything before it. It is replaced
// as a whole, never changed in place.
import { readFile } from 'node:fs/promises';
import { crc32c } from './crc32c.ts';
import { replaceFile } from './durable-fs.ts';
import { OperationalError, systemErrorCode } from './errors.ts';

/** What a file must say in its first line. */
export interface StateFileKind {
  /** One word, for example `walcast-control`. */
  readonly magic: string;
  /** A file of another version is refused, never guessed at. */
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

/** The JSON value in `bytes`, as `unknown` to be checked by the caller, or a sentence that says what is wrong. */
export function decodeStateFile(
  kind: StateFileKind,
  bytes: Uint8Array,
): { readonly body: unknown } | string {
  if (bytes.length > STATE_FILE_BYTES_MAX) return `it is larger than ${STATE_FILE_BYTES_MAX} bytes`;
  if (bytes.length < CHECKSUM_LINE_LENGTH) return 'it is too short';
  const content = bytes.subarray(0, bytes.length - CHECKSUM_LINE_LENGTH);
  const lastLine = Buffer.from(bytes.subarray(content.length)).toString('latin1');
  if (lastLine !== checksumLine(content)) return 'its checksum does not match its content';
  const text = Buffer.from(content).toString('utf8');
  const end = text.indexOf('\n');
  const firstLine = text.slice(0, end);
  if (firstLine !== `${kind.magic} ${kind.version}`) {
    return `it says "${firstLine.slice(0, 80)}", wanted is "${kind.magic} ${kind.version}"`;
  }
  try {
    return { body: JSON.parse(text.slice(end + 1)) as unknown };
  } catch {
    return 'it holds no JSON';
  }
}

/** Replaces the file at `path`; durable when it resolves. Two saves of one path must not overlap. */
export function saveStateFile(path: string, kind: StateFileKind, body: unknown): Promise<void> {
  return replaceFile(path, encodeStateFile(kind, body));
}

/** The JSON value in the file; null when there is no such file. Throws OperationalError when it is damaged. */
export async function loadStateFile(
  path: string,
  kind: StateFileKind,
): Promise<{ readonly body: unknown } | null> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (bytes === null) return null;
  const decoded = decodeStateFile(kind, bytes);
  if (typeof decoded !== 'string') return decoded;
  throw new OperationalError('STATE_FILE_DAMAGED', `the file "${path}" is damaged: ${decoded}`, {
    hint: 'It was changed by something else than walcast, or the disk lost it: look at the disk before anything else.',
  });
}

function checksumLine(content: Uint8Array): string {
  return `crc32c ${crc32c(content).toString(16).padStart(8, '0')}\n`;
}
