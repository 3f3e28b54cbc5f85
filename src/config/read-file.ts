// Reads a small text file: bounded, valid UTF-8, without a byte order mark.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { errorText, systemErrorCode } from '../base/errors.ts';
import { secretFileProblem } from '../base/secret-mode.ts';

/** The text, or why there is none. `secretProblem`: why nothing secret may stand there ({@link secretFileProblem}). */
export type FileText =
  | { readonly text: string; readonly secretProblem: string | null }
  | { readonly problem: string; readonly isMissing?: boolean };

const CHUNK_BYTES = 64 * 1024;

/**
 * Reads the file at `path` whole; more than `bytesMax` bytes is a problem, not a truncation. With `isPlainOnly` whatever is
 * no plain file is a problem: a pipe might never answer. Never throws.
 */
export function readTextFile(path: string, bytesMax: number, isPlainOnly = false): FileText {
  let descriptor: number | null = null;
  try {
    const { O_RDONLY, O_NONBLOCK } = constants;
    descriptor = openSync(path, isPlainOnly ? O_RDONLY | O_NONBLOCK : O_RDONLY);
    const stat = fstatSync(descriptor);
    if (stat.isDirectory()) return { problem: 'is a directory' };
    if (isPlainOnly && !stat.isFile()) return { problem: 'is not a plain file' };
    const bytes = readUpTo(descriptor, bytesMax + 1);
    if (bytes.byteLength > bytesMax) return { problem: `is larger than ${bytesMax} bytes` };
    const text = decode(bytes);
    if (text === null) return { problem: 'is not UTF-8 text' };
    return { text, secretProblem: secretFileProblem(stat, process.getuid?.() ?? null) };
  } catch (error) {
    const isMissing = systemErrorCode(error) === 'ENOENT';
    return { problem: `cannot be read: ${reasonOf(error)}`, isMissing };
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
}

function readUpTo(descriptor: number, bytesMax: number): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  while (total < bytesMax) {
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, bytesMax - total));
    const count = readSync(descriptor, chunk, 0, chunk.byteLength, null);
    if (count === 0) break;
    chunks.push(chunk.subarray(0, count));
    total += count;
  }
  return Buffer.concat(chunks);
}

function decode(bytes: Uint8Array): string | null {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function reasonOf(error: unknown): string {
  const code = systemErrorCode(error);
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES') return 'permission denied';
  return code ?? errorText(error);
}
