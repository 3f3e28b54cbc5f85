// Has all of a TLS client's first message arrived, so that answering it is one piece of work? (RFC 8446 sections 4, 5.1)

/** First byte of a TLS handshake record; no length of a startup packet begins with it. (backend_startup.c:ProcessSSLStartup) */
export const TLS_HANDSHAKE_RECORD = 0x16;

/** Bytes of a first message that are waited for: two records. Clients send half a kilobyte; OpenSSL takes no larger one than 128 kB. */
export const CLIENT_HELLO_BYTES_MAX: number = 32_768;

const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
const RECORD_BYTES_MAX = 16_384;
const CLIENT_HELLO = 1;

/**
 * `more`: it is the beginning of one, and not whole. `whole`: all of it is there, or it is too long to be waited for.
 * `other`: it is something else, for OpenSSL to refuse.
 */
export function clientHelloState(bytes: Uint8Array): 'more' | 'whole' | 'other' {
  if (bytes.length >= CLIENT_HELLO_BYTES_MAX) return 'whole';
  let payload = 0;
  let header = 0;
  for (let offset = 0; offset < bytes.length;) {
    if (bytes[offset] !== TLS_HANDSHAKE_RECORD) return 'other';
    if (bytes.length - offset < RECORD_HEADER_BYTES) return 'more';
    const length = ((bytes[offset + 3] ?? 0) << 8) | (bytes[offset + 4] ?? 0);
    if (length === 0 || length > RECORD_BYTES_MAX) return 'other';
    const body = bytes.subarray(
      offset + RECORD_HEADER_BYTES,
      offset + RECORD_HEADER_BYTES + length,
    );
    for (let index = 0; index < body.length && payload + index < MESSAGE_HEADER_BYTES; index += 1) {
      header = header * 256 + (body[index] ?? 0);
    }
    payload += body.length;
    if (payload >= MESSAGE_HEADER_BYTES) {
      if (Math.floor(header / 0x1_00_00_00) !== CLIENT_HELLO) return 'other';
      if (payload >= MESSAGE_HEADER_BYTES + (header % 0x1_00_00_00)) return 'whole';
    }
    offset += RECORD_HEADER_BYTES + length;
  }
  return 'more';
}
