// How is something fetched over HTTP? The only door to undici: one GET on a connection of its own, with a limit on each step of
// it and on its size, and nowhere else than asked for.
import { createRequire } from 'node:module';
import type * as Undici from 'undici';
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';

/** Loaded when it is first needed: that takes longer than most commands need altogether, and most need none of it. */
let undici: typeof Undici | null = null;

function loadUndici(): typeof Undici {
  undici ??= createRequire(import.meta.url)('undici') as typeof Undici;
  return undici;
}

/** Limits of one request. */
export interface HttpGetOptions {
  readonly clock: Clock;
  /** From looking up the name to the last byte. */
  readonly timeoutMs: number;
  /** Until the connection is open, TLS handshake included; less than `timeoutMs`, so that the words say what was slow. */
  readonly connectTimeoutMs: number;
  /** From there until all headers of the answer are read, and longest silence inside its body. */
  readonly silenceTimeoutMs: number;
  /** Bytes of the answer's body. */
  readonly bodyBytesMax: number;
  /** Ends the request; the promise rejects. */
  readonly signal?: AbortSignal;
}

/** An answer, whatever its status; never a redirect. */
export interface HttpAnswer {
  readonly status: number;
  /** Whole; owned by the caller. */
  readonly body: Uint8Array;
}

/** Fetches a URL; tests hand in their own. */
export type HttpGet = (url: string, options: HttpGetOptions) => Promise<HttpAnswer>;

/** Bytes of all headers of an answer. */
const HEADER_BYTES_MAX = 16 * 1024;

/**
 * GET of an `http:` or `https:` URL. The name is looked up and the connection made anew each time; certificates are checked
 * against the authorities that Node.js trusts (NODE_EXTRA_CA_CERTS adds to them). No proxy is used, no redirect followed, and
 * nothing but the request is sent: no cookie, no password.
 *
 * Rejects with {@link OperationalError}, retryable: `HTTP_CONNECT_FAILED`, `HTTP_TIMEOUT`, `HTTP_TOO_LARGE`, `HTTP_REDIRECT`,
 * `HTTP_BROKEN` (no HTTP, or cut off), `HTTP_ABORTED`. The message begins with the URL's address.
 */
export const httpGet: HttpGet = async (url, options) => {
  const { Client } = loadUndici();
  const { origin, pathname, search, host } = new URL(url);
  const client = new Client(origin, {
    connect: { timeout: options.connectTimeoutMs, rejectUnauthorized: true },
    headersTimeout: options.silenceTimeoutMs,
    bodyTimeout: options.silenceTimeoutMs,
    maxHeaderSize: HEADER_BYTES_MAX,
    // One request a connection: the next one asks the name service again.
    pipelining: 0,
  });
  const limit = new RequestLimit(options);
  try {
    const { statusCode, headers, body } = await client.request({
      method: 'GET',
      path: `${pathname}${search}`,
      headers: { accept: 'application/json', 'user-agent': 'walcast' },
      signal: limit.signal,
    });
    // What comes after the last byte that is wanted is of no interest; an error of it has nobody to go to.
    body.on('error', () => {});
    if (statusCode >= 300 && statusCode < 400) throw redirected(headers['location']);
    return { status: statusCode, body: await readBody(body, options.bodyBytesMax) };
  } catch (error) {
    throw requestError(error, { host, options, limit });
  } finally {
    limit.cancel();
    void client.destroy().catch(() => {});
  }
};

async function readBody(body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) {
      throw new OperationalError('HTTP_TOO_LARGE', `the answer has more than ${bytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The time limit of a whole request, and the caller's signal, as one. */
class RequestLimit {
  readonly #controller = new AbortController();
  readonly #cancel: () => void;
  isOverdue = false;

  constructor({ clock, timeoutMs, signal }: HttpGetOptions) {
    const timer = clock.setTimer(timeoutMs, () => {
      this.isOverdue = true;
      this.#controller.abort();
    });
    const onAbort = (): void => this.#controller.abort();
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    this.#cancel = () => {
      timer.cancel();
      signal?.removeEventListener('abort', onAbort);
    };
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  cancel(): void {
    this.#cancel();
  }
}

interface Failed {
  readonly host: string;
  readonly options: HttpGetOptions;
  readonly limit: RequestLimit;
}

function requestError(error: unknown, { host, options, limit }: Failed): OperationalError {
  const failure = (code: string, what: string): OperationalError =>
    new OperationalError(code, `${host}: ${what}`, { isRetryable: true, cause: error });
  if (error instanceof OperationalError) return failure(error.code, error.message);
  if (limit.isOverdue)
    return failure('HTTP_TIMEOUT', `no whole answer within ${options.timeoutMs} ms`);
  if (options.signal?.aborted === true) return failure('HTTP_ABORTED', 'the request was stopped');
  const code = systemErrorCode(error) ?? '';
  const known = WORDS.get(code);
  if (known !== undefined) return failure(known[0], `${known[1]} (${code})`);
  const { UndiciError, HTTPParserError } = loadUndici().errors;
  const isHttp = error instanceof UndiciError || error instanceof HTTPParserError;
  const text = errorText(error).slice(0, ERROR_CHARACTERS_MAX);
  return isHttp
    ? failure('HTTP_BROKEN', `the answer broke off or is no HTTP: ${text}`)
    : failure('HTTP_CONNECT_FAILED', code === '' ? text : `${text} (${code})`);
}

/** A peer's text is not repeated at any length. */
const ERROR_CHARACTERS_MAX = 200;

const WORDS: ReadonlyMap<string, readonly [code: string, text: string]> = new Map([
  ['ECONNREFUSED', ['HTTP_CONNECT_FAILED', 'connection refused']],
  ['ENOTFOUND', ['HTTP_CONNECT_FAILED', 'the host name is not known']],
  ['EAI_AGAIN', ['HTTP_CONNECT_FAILED', 'the name service did not answer']],
  ['EHOSTUNREACH', ['HTTP_CONNECT_FAILED', 'no route to the host']],
  ['ENETUNREACH', ['HTTP_CONNECT_FAILED', 'the network is unreachable']],
  ['ECONNRESET', ['HTTP_BROKEN', 'connection reset']],
  ['UND_ERR_CONNECT_TIMEOUT', ['HTTP_TIMEOUT', 'no connection in time']],
  ['UND_ERR_HEADERS_TIMEOUT', ['HTTP_TIMEOUT', 'the answer did not begin in time']],
  ['UND_ERR_BODY_TIMEOUT', ['HTTP_TIMEOUT', 'the answer stopped half-way']],
  [
    'UND_ERR_HEADERS_OVERFLOW',
    ['HTTP_TOO_LARGE', `more than ${HEADER_BYTES_MAX} bytes of headers`],
  ],
  ['HPE_HEADER_OVERFLOW', ['HTTP_TOO_LARGE', `more than ${HEADER_BYTES_MAX} bytes of headers`]],
]);

function redirected(location: string | string[] | undefined): OperationalError {
  const to = typeof location === 'string' ? ` to ${maskUrl(location)}` : '';
  return new OperationalError('HTTP_REDIRECT', `redirected${to}, which is not followed`);
}

/** No password that a redirect holds is repeated, nor a long text. */
function maskUrl(text: string): string {
  const printable = text.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, ERROR_CHARACTERS_MAX);
  return printable.replace(/\/\/[^/@]*@/, '//********@');
}
