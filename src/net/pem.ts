// What is in a PEM file?
import { X509Certificate } from 'node:crypto';
import { reasonOf } from './tls-errors.ts';

/**
 * The blocks of PEM text with this label; OpenSSL's own kind of certificate (TRUSTED) counts as one. Every character is
 * looked at once, whatever the file holds.
 */
export function pemBlocks(text: string, label: 'CERTIFICATE' | 'X509 CRL'): string[] {
  const blocks: string[] = [];
  // What stands behind an end and up to the next one is a block when it begins with the same label.
  for (const part of text.split(/(?<=-----END [A-Z0-9 ]{1,64}-----)/)) {
    const start = part.lastIndexOf('-----BEGIN ');
    const block = start < 0 ? '' : part.slice(start);
    const isWanted = [label, `TRUSTED ${label}`].some(
      (name) =>
        block.startsWith(`-----BEGIN ${name}-----`) && block.endsWith(`-----END ${name}-----`),
    );
    if (isWanted) blocks.push(`${block}\n`);
  }
  return blocks;
}

/** Why a certificate cannot be read, in OpenSSL's words; null when it can. */
export function certificateProblem(pem: string): string | null {
  try {
    return new X509Certificate(pem).serialNumber === '' ? 'no serial number' : null;
  } catch (error) {
    return reasonOf(error);
  }
}
