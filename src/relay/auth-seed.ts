// The seed of the salts that unknown users are shown, kept over a restart: `walcast.auth-seed`. A salt that changes would tell
// who is not there. (xlog.c: mock_authentication_nonce, which initdb makes)
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { storageHint } from '../base/durable-fs.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { AUTH_SEED_FILE_NAME } from '../wal/data-directory.ts';

const KIND: StateFileKind = { magic: 'walcast-auth-seed', version: 1 };

/** MOCK_AUTH_NONCE_LEN */
const SEED_BYTES = 32;

/**
 * The seed of the relay whose data directory that is; made and durable when it is missing. One that cannot be read or kept
 * is told of, and another one lasts as long as the process: nobody is locked out for it. Never logged.
 */
export async function loadAuthSeed(directory: string, log: Log): Promise<Uint8Array> {
  const path = join(directory, AUTH_SEED_FILE_NAME);
  const fresh = randomBytes(SEED_BYTES);
  try {
    const content = await loadStateFile(path, KIND);
    const kept = content === null ? null : decode(content.body);
    if (kept !== null) return kept;
    if (content !== null) log.warn(`the file "${path}" holds no seed; another one takes its place`);
    await saveStateFile(path, KIND, { seed: fresh.toString('base64') });
  } catch (error) {
    if (!(error instanceof OperationalError) && systemErrorCode(error) === null) throw error;
    log.warn(
      `the salts that unknown users are shown change with the next start, which tells who is not there: ${errorText(error)}`,
      { next: storageHint(error) ?? 'restart walcast once its data directory can be written' },
    );
  }
  return fresh;
}

function decode(body: unknown): Uint8Array | null {
  const seed: unknown =
    typeof body === 'object' && body !== null && 'seed' in body ? body.seed : null;
  if (typeof seed !== 'string') return null;
  const bytes = Buffer.from(seed, 'base64');
  return bytes.length === SEED_BYTES ? bytes : null;
}
