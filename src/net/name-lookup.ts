// Which addresses does a host name have? The one place that asks the name service by itself; dialling asks again, so that
// a name is looked up anew for every connection.
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { OperationalError, systemErrorCode } from '../base/errors.ts';

/**
 * The addresses of `host`, in the order they would be tried; an address is its own. Rejects with
 * {@link OperationalError} `NAME_UNKNOWN`. The name service has timeouts of its own, which may be long.
 */
export async function lookUpName(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    const found = await lookup(host, { all: true });
    return [...new Set(found.map(({ address }) => address))];
  } catch (cause) {
    const code = systemErrorCode(cause);
    throw new OperationalError(
      'NAME_UNKNOWN',
      `could not translate host name "${host}" to address: ${describe(code)}`,
      {
        isRetryable: code === 'EAI_AGAIN',
        hint: 'Correct the host name, or make it known to the name service or in /etc/hosts.',
        cause,
      },
    );
  }
}

/** In the words of gai_strerror, which libpq prints. */
function describe(code: string | null): string {
  if (code === 'ENOTFOUND') return 'Name or service not known';
  if (code === 'EAI_AGAIN') return 'Temporary failure in name resolution';
  return code ?? 'the name service failed';
}
