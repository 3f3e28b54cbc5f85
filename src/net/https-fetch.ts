// How is a walcast asked whose HTTP port speaks TLS? By undici's fetch, with authorities, and a certificate of our own, as they
// are named: the fetch that Node.js brings along takes neither.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';
import type * as Undici from 'undici';
import { errorText, OperationalError } from '../base/errors.ts';
import { readSystemRoots } from './tls-files.ts';

/** PEM files; null where none is named. */
export interface HttpsFiles {
  /** Authorities that may have signed the server's certificate; null: those that the system trusts. */
  readonly ca: string | null;
  /** Our own certificate and its key, for a port that asks for one. */
  readonly cert: string | null;
  readonly key: string | null;
}

/** What of a request is used. */
export interface FetchRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly redirect: 'error';
  readonly body?: string;
  readonly signal: AbortSignal;
}

/** What of an answer is used. */
export interface FetchAnswer {
  readonly status: number;
  readonly ok: boolean;
  readonly headers: { get(name: string): string | null };
  readonly body: AsyncIterable<Uint8Array> | null;
}

/** Requests over TLS with one set of files, until it is closed. */
export interface HttpsFetch {
  readonly fetch: (url: URL, request: FetchRequest) => Promise<FetchAnswer>;
  close(): Promise<void>;
}

/**
 * Reads the files. The server's name is checked against its certificate, always. Rejects with OperationalError
 * `TLS_FILE_UNREADABLE` that names the file.
 */
export async function openHttpsFetch(files: HttpsFiles): Promise<HttpsFetch> {
  const { Agent, fetch } = loadUndici();
  const cert = await readNamed(files.cert);
  const key = await readNamed(files.key);
  checkOurs(files, { cert, key });
  const agent = new Agent({
    connect: {
      ca: [...(await rootsOf(files.ca))],
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ...(cert === null ? {} : { cert }),
      ...(key === null ? {} : { key }),
    },
  });
  return {
    fetch: (url, request) => fetch(url, { ...request, dispatcher: agent }),
    close: () => agent.destroy(),
  };
}

function loadUndici(): typeof Undici {
  return createRequire(import.meta.url)('undici') as typeof Undici;
}

async function rootsOf(ca: string | null): Promise<readonly string[]> {
  const text = await readNamed(ca);
  if (text === null) return await readSystemRoots({ target: 'walcast', environment: process.env });
  if (text.includes('-----BEGIN ')) return [text];
  throw unreadable(ca ?? '', 'it holds no certificate in PEM form');
}

async function readNamed(file: string | null): Promise<string | null> {
  if (file === null) return null;
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw unreadable(file, errorText(error), error);
  }
}

/** In the middle of a connection OpenSSL's word would read as one about the server, and without a name. */
function checkOurs(
  files: HttpsFiles,
  { cert, key }: { readonly cert: string | null; readonly key: string | null },
): void {
  const tries: readonly (readonly [string | null, SecureContextOptions])[] = [
    [files.cert, cert === null ? {} : { cert }],
    [files.key, key === null ? {} : { key }],
    [files.key, cert === null || key === null ? {} : { cert, key }],
  ];
  for (const [file, options] of tries) {
    try {
      createSecureContext(options);
    } catch (error) {
      throw unreadable(file ?? '', errorText(error), error);
    }
  }
}

function unreadable(file: string, reason: string, cause?: unknown): OperationalError {
  return new OperationalError('TLS_FILE_UNREADABLE', `"${file}" cannot be used: ${reason}`, {
    hint: 'It must be a file in PEM form that you may read.',
    cause,
  });
}
