// What is wrong with a certificate, in words for people.
import { CERTIFICATE_WARNING_MS } from '../config/limits.ts';
import type { CertificateJson } from '../http/access-json.ts';

/** What each certificate is for, in front of its address. */
export const CERTIFICATE_WORDS: Readonly<Record<CertificateJson['role'], string>> = {
  server: 'for standbys at',
  http: 'for HTTP at',
  upstream_client: 'towards',
};

const DAY_MS = 86_400_000;

/** What somebody should do something about; `wallMs` is now, milliseconds since the Unix epoch. Empty when all is well. */
export function certificateTroubles(certificate: CertificateJson, wallMs: number): string[] {
  const { role, address, expires_at: expiresAt, problem } = certificate;
  const what = `certificate ${CERTIFICATE_WORDS[role]} ${address}`;
  const found: string[] = [];
  const leftMs = expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(expiresAt) - wallMs;
  if (leftMs <= 0) found.push(`${what} has expired`);
  else if (leftMs < CERTIFICATE_WARNING_MS) {
    const days = Math.floor(leftMs / DAY_MS);
    found.push(`${what} expires in ${days === 1 ? '1 day' : `${days} days`}`);
  }
  if (problem !== null) found.push(`${what}: newer files are not in use: ${problem}`);
  return found;
}
