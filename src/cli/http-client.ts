// The only place that makes HTTP requests of its own: asks a running walcast.
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import { HTTP_ANSWER_BYTES_MAX, HTTP_CLIENT_TIMEOUT_MS } from '../config/limits.ts';

/** GETs JSON. Rejects with OperationalError when nobody answers, or the answer is not 200 with JSON. */
export async function getJson(url: URL, clock: Clock): Promise<unknown> {
  const aborter = new AbortController();
  const timer = clock.setTimer(HTTP_CLIENT_TIMEOUT_MS, () => aborter.abort());
  try {
    const response = await fetch(url, { signal: aborter.signal, redirect: 'error' });
    if (!response.ok) throw unusable(url, `it answered ${response.status}`);
    return await jsonOf(response, url);
  } catch (error) {
    if (error instanceof OperationalError) throw error;
    const reason = aborter.signal.aborted
      ? `no answer within ${HTTP_CLIENT_TIMEOUT_MS / 1000} s`
      : reasonOf(error);
    throw new OperationalError('UNREACHABLE', `no walcast answers at ${url.origin}: ${reason}`, {
      isRetryable: true,
      hint: 'Is it running, and is http.listen there? --url names another address.',
      cause: error,
    });
  } finally {
    timer.cancel();
  }
}

async function jsonOf(response: Response, url: URL): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response.body ?? []) {
    total += chunk.byteLength;
    if (total > HTTP_ANSWER_BYTES_MAX) throw unusable(url, 'its answer is too long');
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw unusable(url, 'its answer is not JSON');
  }
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
