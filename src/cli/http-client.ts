// The only place that makes HTTP requests of its own: asks a running walcast.
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import { HTTP_ANSWER_BYTES_MAX, HTTP_CLIENT_TIMEOUT_MS } from '../config/limits.ts';
import { openHttpsFetch } from '../net/https-fetch.ts';
import { isRefusal, refusalOf } from './refusal.ts';
import type { FetchAnswer, FetchRequest, HttpsFiles } from '../net/https-fetch.ts';

/** What is asked. */
export interface HttpRequest {
  readonly url: URL;
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'DELETE';
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: string | null;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly clock: Clock;
  /** For an `https:` URL; default: the authorities of the system, and no certificate of our own. */
  readonly tls?: HttpsFiles;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
}

/** An answer with its body read. `body` is null when there is none, or when it is no JSON. */
export interface JsonAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** GETs JSON. Rejects with OperationalError when nobody answers, or the answer is not 200 with JSON. */
export async function getJson(request: HttpRequest): Promise<unknown> {
  const { url, token = null } = request;
  return await withAnswer(request, async (response) => {
    if (response.status === 401)
      throw refused(url, token === null ? 'wants a token' : 'refuses the token');
    // What is only shown needs no token that is not there: this is what http.tls.ca asks for.
    if (response.status === 403) throw refused(url, 'wants a client certificate');
    if (!response.ok) {
      const { status } = response;
      const answer = { status, body: parsed(await textOf(response, url)) ?? null };
      throw isRefusal(answer) ? refusalOf(answer) : unusable(url, `it answered ${status}`);
    }
    const body = parsed(await textOf(response, url));
    if (body === undefined) throw unusable(url, 'its answer is not JSON');
    return body;
  });
}

/** Asks, and gives any answer back. Rejects with OperationalError `UNREACHABLE` when nobody answers. */
export async function askJson(request: HttpRequest): Promise<JsonAnswer> {
  return await withAnswer(request, async (response) => ({
    status: response.status,
    body: parsed(await textOf(response, request.url)) ?? null,
  }));
}

/** A body that is read piece by piece. */
export interface StreamedAnswer {
  /** Of Content-Length; null when the answer did not say. */
  readonly length: number | null;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Asks, and hands an answer of 200 to `take` as it arrives; any other answer comes back. A peer that sends nothing for
 * the timeout is given up. Rejects with OperationalError `UNREACHABLE`; an OperationalError of `take` passes.
 */
export async function streamBody(
  request: HttpRequest,
  take: (answer: StreamedAnswer) => Promise<void>,
): Promise<JsonAnswer | null> {
  return await withAnswer(request, async (response, alive) => {
    if (response.status !== 200) {
      return {
        status: response.status,
        body: parsed(await textOf(response, request.url)) ?? null,
      };
    }
    const length = response.headers.get('content-length');
    await take({
      length: length !== null && /^\d{1,15}$/.test(length) ? Number(length) : null,
      chunks: kept(response, alive),
    });
    return null;
  });
}

async function* kept(response: FetchAnswer, alive: () => void): AsyncIterable<Uint8Array> {
  for await (const chunk of response.body ?? []) {
    alive();
    yield chunk;
  }
}

/** `use` calls `alive` whenever the peer sent something: the timeout begins anew then. */
async function withAnswer<T>(
  request: HttpRequest,
  use: (response: FetchAnswer, alive: () => void) => Promise<T>,
): Promise<T> {
  const { url, clock } = request;
  const aborter = new AbortController();
  const arm = (): ReturnType<Clock['setTimer']> =>
    clock.setTimer(HTTP_CLIENT_TIMEOUT_MS, () => aborter.abort());
  let timer = arm();
  try {
    const signals = [aborter.signal, ...(request.signal === undefined ? [] : [request.signal])];
    const init = { ...initOf(request), signal: AbortSignal.any(signals) };
    return await withFetch(request, async (ask) =>
      use(await ask(url, init), () => {
        timer.cancel();
        timer = arm();
      }),
    );
  } catch (error) {
    if (error instanceof OperationalError) throw error;
    const reason = aborter.signal.aborted
      ? `no answer within ${HTTP_CLIENT_TIMEOUT_MS / 1000} s`
      : reasonOf(error);
    throw new OperationalError('UNREACHABLE', `no walcast answers at ${url.origin}: ${reason}`, {
      isRetryable: true,
      hint: isUntrusted(error) ? UNTRUSTED : NOBODY_THERE,
      cause: error,
    });
  } finally {
    timer.cancel();
  }
}

const NOBODY_THERE =
  'Is it running, and is http.listen there? --url names another address; where http.tls is set it begins with https.';
const UNTRUSTED =
  '--ca names the file with the authority that signed its certificate; the name in --url must be one that the certificate is for.';

/** Plain HTTP needs nothing of what TLS needs, which takes longer to load than most commands need altogether. */
async function withFetch<T>(
  { url, tls }: HttpRequest,
  work: (ask: (url: URL, init: FetchRequest) => Promise<FetchAnswer>) => Promise<T>,
): Promise<T> {
  if (url.protocol !== 'https:') return await work(fetch);
  const secure = await openHttpsFetch(tls ?? { ca: null, cert: null, key: null });
  try {
    return await work(secure.fetch);
  } finally {
    await secure.close();
  }
}

/** The server showed a certificate, and we did not believe it. */
function isUntrusted(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = systemErrorCode(cause) ?? '';
  return /CERT|^UNABLE_TO_|ALTNAME/.test(code);
}

function initOf({ method = 'GET', token, body }: HttpRequest): Omit<FetchRequest, 'signal'> {
  const headers: Record<string, string> = {};
  if (token !== undefined && token !== null) headers['authorization'] = `Bearer ${token}`;
  if (body === undefined) return { method, headers, redirect: 'error' };
  headers['content-type'] = 'application/json';
  return { method, headers, redirect: 'error', body: JSON.stringify(body) };
}

async function textOf(response: FetchAnswer, url: URL): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response.body ?? []) {
    total += chunk.byteLength;
    if (total > HTTP_ANSWER_BYTES_MAX) throw unusable(url, 'its answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Undefined when `text` is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refused(url: URL, what: string): OperationalError {
  return new OperationalError('REFUSED', `${url.origin} ${what}`, {
    hint: 'Give the token of its http.token_file with --token-file; where it asks for a client certificate, that with --cert and --key.',
  });
}

function unusable(url: URL, reason: string): OperationalError {
  return new OperationalError('BAD_ANSWER', `${url.href} is not a walcast: ${reason}`);
}

/** fetch hides the reason of a failed connection behind "fetch failed". */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof AggregateError) return errorText(cause.errors[0]);
  return errorText(cause ?? error);
}
