// What does the first packet of a connection say, and how is one written?
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { decodeText, MessageReader } from './message-reader.ts';
import { MessageWriter } from './message-writer.ts';
import type { StartupPacket } from './startup-decoder.ts';

export {
  parseReplicationParameter,
  parseStartupOptions,
  REPLICATION_PARAMETER_HINT,
} from './startup-parameters.ts';

export const CANCEL_REQUEST_CODE = 80_877_102;
export const SSL_REQUEST_CODE = 80_877_103;
export const GSSENC_REQUEST_CODE = 80_877_104;

/** Major of the only protocol spoken. */
export const PROTOCOL_MAJOR = 3;

/** A request for a session. */
export interface StartupMessage {
  readonly type: 'StartupMessage';
  readonly protocolMajor: number;
  readonly protocolMinor: number;
  /** In the order they first came, the last value winning, without `_pq_.` options. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Names of the `_pq_.` options, to be listed in NegotiateProtocolVersion. */
  readonly protocolOptions: readonly string[];
}

/** A request to cancel what the session `pid` does. Never answered. */
export interface CancelRequest {
  readonly type: 'CancelRequest';
  readonly pid: number;
  /** 1 to 256 bytes; a buffer of its own. */
  readonly key: Uint8Array;
}

export type InitialMessage =
  | StartupMessage
  | CancelRequest
  | { readonly type: 'SSLRequest' }
  | { readonly type: 'GSSENCRequest' };

const CANCEL_KEY_BYTES_MAX = 256;
const PROTOCOL_OPTION_PREFIX = '_pq_.';

/**
 * Reads an untyped packet. `protocolMinorMax` only goes into the text of a refusal. Does not look at what the
 * parameters mean. Throws {@link ProtocolViolation}: 0A000 for another major, 08P01 for a malformed packet.
 */
export function decodeInitialMessage(packet: StartupPacket, protocolMinorMax = 0): InitialMessage {
  switch (packet.code) {
    case SSL_REQUEST_CODE:
      return { type: 'SSLRequest' };
    case GSSENC_REQUEST_CODE:
      return { type: 'GSSENCRequest' };
    case CANCEL_REQUEST_CODE:
      return decodeCancelRequest(packet.body);
    default:
      return decodeStartupMessage(packet, protocolMinorMax);
  }
}

/** What a code that is no protocol version is refused with; also a second SSLRequest, which is read as version 1234.5679. */
export function unsupportedProtocol(code: number, protocolMinorMax = 0): ProtocolViolation {
  const version = `${code >>> 16}.${code & 0xffff}`;
  return new ProtocolViolation(
    SQLSTATE.featureNotSupported,
    `unsupported frontend protocol ${version}: server supports 3.0 to 3.${protocolMinorMax}`,
  );
}

/** The bytes of an SSLRequest. */
export function encodeSslRequest(): Uint8Array {
  return new MessageWriter(null).int32(SSL_REQUEST_CODE).finish();
}

/** The bytes of a StartupMessage of protocol 3.`protocolMinor`. */
export function encodeStartupMessage(
  parameters: Iterable<readonly [name: string, value: string]>,
  protocolMinor = 0,
): Uint8Array {
  const writer = new MessageWriter(null).int32((PROTOCOL_MAJOR << 16) | protocolMinor);
  for (const [name, value] of parameters) writer.cstring(name).cstring(value);
  return writer.byte(0).finish();
}

/** The bytes of a CancelRequest. */
export function encodeCancelRequest(pid: number, key: Uint8Array): Uint8Array {
  return new MessageWriter(null).int32(CANCEL_REQUEST_CODE).int32(pid).bytes(key).finish();
}

function decodeCancelRequest(body: Uint8Array): CancelRequest {
  const reader = new MessageReader(body);
  const keyBytes = body.length - 4;
  if (keyBytes < 1 || keyBytes > CANCEL_KEY_BYTES_MAX) {
    throw new ProtocolViolation(
      SQLSTATE.protocolViolation,
      'invalid length of cancel request packet',
    );
  }
  return { type: 'CancelRequest', pid: reader.int32(), key: reader.rest().slice() };
}

function decodeStartupMessage(packet: StartupPacket, protocolMinorMax: number): StartupMessage {
  const protocolMajor = packet.code >>> 16;
  if (protocolMajor !== PROTOCOL_MAJOR) throw unsupportedProtocol(packet.code, protocolMinorMax);
  const parameters = new Map<string, string>();
  const protocolOptions: string[] = [];
  // Read as one text: thousands of small ones cost milliseconds, and strangers send them.
  const strings = decodeText(packet.body).split('\0');
  const behind = strings.pop();
  let at = 0;
  for (; strings[at] !== ''; at += 2) {
    const [name, value] = strings.slice(at, at + 2);
    if (name === undefined || value === undefined) throw invalidLayout();
    if (name.startsWith(PROTOCOL_OPTION_PREFIX)) protocolOptions.push(name);
    else parameters.set(name, value);
  }
  if (behind !== '' || at !== strings.length - 1) throw invalidLayout();
  return {
    type: 'StartupMessage',
    protocolMajor,
    protocolMinor: packet.code & 0xffff,
    parameters,
    protocolOptions,
  };
}

function invalidLayout(): ProtocolViolation {
  return new ProtocolViolation(
    SQLSTATE.protocolViolation,
    'invalid startup packet layout: expected terminator as last byte',
  );
}
