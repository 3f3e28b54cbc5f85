// How is an application_name written down? (src/backend/utils/misc/guc.c:check_application_name, pg_clean_ascii)
import type { VersionFacts } from './server-version.ts';

const NAME_BYTES_MAX = 63;

/**
 * The name as the server we stand for would show it: bytes outside printable ASCII become `\xNN` (from 16 on) or `?`,
 * and 63 bytes are kept.
 */
export function sanitizeApplicationName(name: string, facts: VersionFacts): string {
  if (/^[\x20-\x7e]*$/.test(name)) return name.slice(0, NAME_BYTES_MAX);
  let clean = '';
  for (const byte of Buffer.from(name)) {
    clean += cleanByte(byte, facts.escapesApplicationName);
    if (clean.length >= NAME_BYTES_MAX) break;
  }
  return clean.slice(0, NAME_BYTES_MAX);
}

function cleanByte(byte: number, escapes: boolean): string {
  if (byte >= 0x20 && byte <= 0x7e) return String.fromCharCode(byte);
  return escapes ? `\\x${byte.toString(16).padStart(2, '0')}` : '?';
}
