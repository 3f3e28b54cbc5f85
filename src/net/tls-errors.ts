// What is told when TLS does not come about: libpq's words where it has some, a code to tell the cases apart, what to do.
// (src/interfaces/libpq/fe-secure-openssl.c)
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import type { TlsVersion } from '../pg/conninfo.ts';

/**
 * TLS was tried and failed: a handshake, a certificate, a file. libpq goes on without TLS then where sslmode lets it; all
 * other errors end the attempt. Always retryable: files and certificates are replaced while we run.
 */
export class TlsFailure extends OperationalError {
  constructor(code: string, message: string, options: { hint: string; cause?: unknown }) {
    super(code, message, { isRetryable: true, ...options });
  }
}

/** What the words of an error are filled with. */
export interface TlsErrorContext {
  /** Where we connect to, for messages. */
  readonly target: string;
  readonly isDirect: boolean;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion | null;
}

interface Explanation {
  readonly code: string;
  readonly hint: string;
}

const UNKNOWN_CA: Explanation = {
  code: 'TLS_UNKNOWN_CA',
  hint: "Name the file with the certificate of the authority that signed the server's in sslrootcert, or sslrootcert=system for one that this machine trusts.",
};

const CRL_UNUSABLE: Explanation = {
  code: 'TLS_CRL_UNUSABLE',
  hint: "Put an up-to-date certificate revocation list of every authority in the server's chain into sslcrl or sslcrldir, or leave both out.",
};

const CERTIFICATE_INVALID: Explanation = {
  code: 'TLS_CERTIFICATE_INVALID',
  hint: "Have the server's certificate, or that of an authority in its chain, replaced (ssl_cert_file on the upstream).",
};

/** Results of the verification of the server's certificate, as Node.js names them (X509_V_ERR_…). */
const VERIFICATION: ReadonlyMap<string, Explanation> = new Map([
  [
    'CERT_HAS_EXPIRED',
    {
      code: 'TLS_CERTIFICATE_EXPIRED',
      hint: "A certificate in the server's chain has expired: have it renewed (ssl_cert_file on the upstream), and check this machine's clock.",
    },
  ],
  [
    'CERT_NOT_YET_VALID',
    {
      code: 'TLS_CERTIFICATE_NOT_YET_VALID',
      hint: "A certificate in the server's chain is not valid yet: check the clocks of this machine and of the one that made it.",
    },
  ],
  [
    'CERT_REVOKED',
    {
      code: 'TLS_CERTIFICATE_REVOKED',
      hint: "The server's certificate is in a revocation list: have it replaced (ssl_cert_file on the upstream).",
    },
  ],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', UNKNOWN_CA],
  ['SELF_SIGNED_CERT_IN_CHAIN', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', UNKNOWN_CA],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', UNKNOWN_CA],
  ['CERT_UNTRUSTED', UNKNOWN_CA],
  ['CERT_SIGNATURE_FAILURE', UNKNOWN_CA],
  ['UNABLE_TO_GET_CRL', CRL_UNUSABLE],
  ['CRL_HAS_EXPIRED', CRL_UNUSABLE],
  ['CRL_NOT_YET_VALID', CRL_UNUSABLE],
  ['CRL_SIGNATURE_FAILURE', CRL_UNUSABLE],
  ['CERT_CHAIN_TOO_LONG', CERTIFICATE_INVALID],
  ['INVALID_CA', CERTIFICATE_INVALID],
  ['INVALID_PURPOSE', CERTIFICATE_INVALID],
  ['PATH_LENGTH_EXCEEDED', CERTIFICATE_INVALID],
  ['CERT_REJECTED', CERTIFICATE_INVALID],
  ['HOSTNAME_MISMATCH', CERTIFICATE_INVALID],
  ['UNABLE_TO_DECRYPT_CERT_SIGNATURE', CERTIFICATE_INVALID],
  ['UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY', CERTIFICATE_INVALID],
  ['ERROR_IN_CERT_NOT_BEFORE_FIELD', CERTIFICATE_INVALID],
  ['ERROR_IN_CERT_NOT_AFTER_FIELD', CERTIFICATE_INVALID],
  ['UNABLE_TO_DECRYPT_CRL_SIGNATURE', CRL_UNUSABLE],
  ['ERROR_IN_CRL_LAST_UPDATE_FIELD', CRL_UNUSABLE],
  ['ERROR_IN_CRL_NEXT_UPDATE_FIELD', CRL_UNUSABLE],
  // All that Node.js has no name for, such as name constraints and a key usage that does not fit.
  ['UNSPECIFIED', CERTIFICATE_INVALID],
]);

const CLIENT_REFUSED: Explanation = {
  code: 'TLS_CLIENT_CERTIFICATE_REFUSED',
  hint: "The server did not accept our certificate: check sslcert and sslkey, their dates, and that the server's ssl_ca_file has the authority that signed it.",
};

const VERSION: Explanation = {
  code: 'TLS_PROTOCOL_VERSION',
  hint: 'Let the server speak TLS 1.2 or later (ssl_min_protocol_version, ssl_max_protocol_version there), or widen the same settings in upstream.conninfo.',
};

/** Versions and certificates were agreed on before. */
const BROKEN: Explanation = {
  code: 'TLS_BROKEN',
  hint: 'What arrived is not what the server encrypted: check what stands between here and it.',
};

/** Errors of the handshake by OpenSSL's reason; `alert` in a reason means that the server said it. */
const HANDSHAKE: readonly { readonly reason: RegExp; readonly explanation: Explanation }[] = [
  {
    reason: /NO_APPLICATION_PROTOCOL/,
    explanation: { code: 'TLS_ALPN_MISSING', hint: alpnHint() },
  },
  {
    reason:
      /ALERT_(UNKNOWN_CA|CERTIFICATE_REQUIRED|BAD_CERTIFICATE|CERTIFICATE_(EXPIRED|REVOKED|UNKNOWN)|UNSUPPORTED_CERTIFICATE|DECRYPT_ERROR|ACCESS_DENIED)/,
    explanation: CLIENT_REFUSED,
  },
  {
    reason:
      /NO_PROTOCOLS_AVAILABLE|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|UNKNOWN_PROTOCOL|SSL_VERSION|VERSION_NUMBER|VERSION_TOO_(HIGH|LOW)/,
    explanation: VERSION,
  },
];

/** The error of a handshake that failed with `error`, or of which nothing is known but that the connection ended. */
export function handshakeFailure(error: Error | null, context: TlsErrorContext): TlsFailure {
  const code = error === null ? null : systemErrorCode(error);
  const verification = code === null ? undefined : VERIFICATION.get(code);
  if (error !== null && verification !== undefined) {
    const text = `SSL error: certificate verify failed: ${error.message}`;
    return tlsFailure(context, text, { ...verification, cause: error });
  }
  if (error === null || code === null || !code.startsWith('ERR_')) {
    return tlsFailure(context, `SSL SYSCALL error: ${systemText(code)}`, {
      code: 'TLS_HANDSHAKE_FAILED',
      hint: context.isDirect
        ? 'sslnegotiation=direct needs PostgreSQL 17 or later on the other side: leave it out for an older one.'
        : 'Check in the log of the server why it ended the handshake.',
      cause: error,
    });
  }
  const explanation = explainCode(code);
  const range = `${context.minVersion} and ${context.maxVersion ?? 'TLSv1.3'}`;
  const versions =
    explanation.code === VERSION.code
      ? `. This may indicate that the server does not support any SSL protocol version between ${range}.`
      : '';
  return tlsFailure(context, `SSL error: ${reasonOf(error)}${versions}`, {
    ...explanation,
    cause: error,
  });
}

/**
 * The error of a connection that ended with `code` after the handshake: in TLS 1.3 a server looks at the client's
 * certificate only then. Null when the code is none of TLS. No {@link TlsFailure}: libpq does not go on without TLS then.
 */
export function alertFailure(code: string, context: { target: string }): OperationalError | null {
  if (!code.startsWith('ERR_SSL_')) return null;
  const reason = code.replace('ERR_SSL_', '').replaceAll('_', ' ').toLowerCase();
  const known = code.includes('_ALERT_') ? explainCode(code) : BROKEN;
  const text = failureText(context, `SSL error: ${reason}`);
  return new OperationalError(known.code, text, { isRetryable: true, hint: known.hint });
}

/** A {@link TlsFailure} that begins with where it happened. */
export function tlsFailure(
  context: { target: string },
  text: string,
  options: { code: string; hint: string; cause?: unknown },
): TlsFailure {
  return new TlsFailure(options.code, failureText(context, text), options);
}

function failureText(context: { target: string }, text: string): string {
  return `TLS to ${context.target} failed: ${text}`;
}

/** What to do about a server that does not take part in ALPN. */
export function alpnHint(): string {
  return 'Something that is not PostgreSQL 17 or later answers there: leave sslnegotiation=direct out, or let the proxy in between pass ALPN "postgresql".';
}

/** OpenSSL's reason in its own words, as libpq prints it. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
}

function explainCode(code: string): Explanation {
  const known = HANDSHAKE.find(({ reason }) => reason.test(code));
  return (
    known?.explanation ?? {
      code: 'TLS_HANDSHAKE_FAILED',
      hint: 'Check in the log of the server why it ended the handshake; it may ask for a client certificate (sslcert, sslkey).',
    }
  );
}

function systemText(code: string | null): string {
  // Node.js calls an end in the middle of a handshake a reset, without its errno.
  if (code === null || code === 'ECONNRESET') return 'EOF detected';
  return code;
}
