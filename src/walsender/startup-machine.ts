// What does the first part of a connection ask for: encryption, a cancel, or a session? Pure: packets in, what to do out.
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { TLS_HANDSHAKE_RECORD } from '../wire/client-hello.ts';
import { decodeInitialMessage, unsupportedProtocol } from '../wire/startup.ts';
import {
  CANCEL_REQUEST_CODE,
  GSSENC_REQUEST_CODE,
  PROTOCOL_MAJOR,
  SSL_REQUEST_CODE,
} from '../wire/startup.ts';
import type { StartupMessage } from '../wire/startup.ts';
import type { StartupPacket } from '../wire/startup-decoder.ts';

/** What to do with a packet. */
export type StartupAction =
  /** Write `N` and wait for the next packet. */
  | { readonly kind: 'decline-encryption' }
  /** Write `S`; the next bytes are the client's handshake. */
  | { readonly kind: 'begin-tls' }
  | { readonly kind: 'cancel'; readonly pid: number; readonly key: Uint8Array }
  /** Close without an answer; `text` is for the log. */
  | { readonly kind: 'close'; readonly text: string }
  | { readonly kind: 'session'; readonly message: StartupMessage }
  /** Send the error and close; `declineFirst`: the `N` that was due goes before it. `isOldForm`: as before protocol 3. */
  | {
      readonly kind: 'refuse';
      readonly error: ErrorFields;
      readonly declineFirst: boolean;
      readonly isOldForm: boolean;
    };

/** What a packet is judged by besides itself. */
export interface StartupContext {
  /** Bytes already received behind it. */
  readonly bytesBehind: number;
  /** Goes into the text of a refusal. */
  readonly protocolMinorMax: number;
  /** False also inside TLS, where another one cannot be begun. */
  readonly canStartTls: boolean;
}

/** One connection up to its StartupMessage. */
export class StartupMachine {
  #hasAskedTls = false;
  #hasAskedGss = false;

  onPacket(packet: StartupPacket, context: StartupContext): StartupAction {
    const { code } = packet;
    const { bytesBehind, protocolMinorMax } = context;
    if (code === SSL_REQUEST_CODE && !this.#hasAskedTls) {
      this.#hasAskedTls = true;
      // An accepted request forbids the other one.
      this.#hasAskedGss ||= context.canStartTls;
      return context.canStartTls ? beginTls(bytesBehind) : decline(bytesBehind, SMUGGLED_TLS);
    }
    if (code === GSSENC_REQUEST_CODE && !this.#hasAskedGss) {
      this.#hasAskedGss = true;
      return decline(bytesBehind, 'received unencrypted data after GSSAPI encryption request');
    }
    try {
      return this.#read(packet, protocolMinorMax);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      // Whoever cancels does not wait for an answer, whatever is wrong. (backend_startup.c:ProcessCancelRequestPacket)
      if (code === CANCEL_REQUEST_CODE) return { kind: 'close', text: error.message };
      const isOldForm = code !== 0 && code >>> 16 < PROTOCOL_MAJOR;
      return { ...refuse(error.code, error.message), isOldForm };
    }
  }

  #read(packet: StartupPacket, protocolMinorMax: number): StartupAction {
    const message = decodeInitialMessage(packet, protocolMinorMax);
    if (message.type === 'StartupMessage') return { kind: 'session', message };
    if (message.type === 'CancelRequest') {
      return { kind: 'cancel', pid: message.pid, key: message.key };
    }
    // A second request for encryption is read as a protocol version.
    throw unsupportedProtocol(packet.code, protocolMinorMax);
  }
}

const SMUGGLED_TLS = 'received unencrypted data after SSL request';

/** Why a first packet has no valid length, for the log. */
export function invalidLengthText(firstByte: number): string {
  // As a client with sslnegotiation=direct sends it.
  return firstByte === TLS_HANDSHAKE_RECORD
    ? 'direct TLS connection requested, TLS is not offered'
    : 'invalid length of startup packet';
}

function decline(bytesBehind: number, smuggled: string): StartupAction {
  if (bytesBehind === 0) return { kind: 'decline-encryption' };
  return { kind: 'refuse', error: smuggledBytes(smuggled), declineFirst: true, isOldForm: false };
}

/** PostgreSQL finishes the handshake before it says so, which takes a client that goes on with it. Nobody honest is that client. */
function beginTls(bytesBehind: number): StartupAction {
  if (bytesBehind === 0) return { kind: 'begin-tls' };
  return {
    kind: 'refuse',
    error: smuggledBytes(SMUGGLED_TLS),
    declineFirst: false,
    isOldForm: false,
  };
}

/** What is in the buffer behind the request was not encrypted, and may have been put there by somebody else (CVE-2021-23214). */
function smuggledBytes(message: string): ErrorFields {
  return {
    severity: 'FATAL',
    sqlstate: SQLSTATE.protocolViolation,
    message,
    detail:
      'This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
  };
}

function refuse(sqlstate: string, message: string): Extract<StartupAction, { kind: 'refuse' }> {
  return {
    kind: 'refuse',
    error: { severity: 'FATAL', sqlstate, message },
    declineFirst: false,
    isOldForm: false,
  };
}
