// A second, deliberately plain writer of protocol bytes, so that no test asks a codec about its own output.

/** Bytes of numbers, text (UTF-8, no NUL added) and other bytes, one behind the other. */
export function raw(...parts: (number | string | Uint8Array)[]): Uint8Array {
  const pieces = parts.map((part) =>
    typeof part === 'number' ? Uint8Array.of(part) : Buffer.from(part),
  );
  return Uint8Array.from(Buffer.concat(pieces));
}

/** Text and its NUL. */
export function cstr(text: string): Uint8Array {
  return raw(text, 0);
}

/** 16 bits, big-endian. */
export function i16(value: number): Uint8Array {
  const buffer = Buffer.alloc(2);
  buffer.writeInt16BE(value);
  return Uint8Array.from(buffer);
}

/** 32 bits, big-endian; negative numbers in two's complement. */
export function i32(value: number): Uint8Array {
  const buffer = Buffer.alloc(4);
  if (value < 0) buffer.writeInt32BE(value);
  else buffer.writeUInt32BE(value);
  return Uint8Array.from(buffer);
}

/** 64 bits, big-endian; negative numbers in two's complement. */
export function i64(value: bigint): Uint8Array {
  const buffer = Buffer.alloc(8);
  if (value < 0n) buffer.writeBigInt64BE(value);
  else buffer.writeBigUInt64BE(value);
  return Uint8Array.from(buffer);
}

/** A typed message. */
export function message(type: string, ...parts: (number | string | Uint8Array)[]): Uint8Array {
  const body = raw(...parts);
  return raw(type, i32(4 + body.length), body);
}

/** An untyped packet of the startup phase. */
export function packet(code: number, ...parts: (number | string | Uint8Array)[]): Uint8Array {
  const body = raw(...parts);
  return raw(i32(8 + body.length), i32(code), body);
}

/** The body of a typed message, cut out of its bytes. */
export function bodyOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice(5);
}
