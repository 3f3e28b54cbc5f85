// What does the first part of a connection ask for: encryption, a cancel, or a session? Pure: packets in, what to do out.
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { decodeInitialMessage, unsupportedProtocol } from '../wire/startup.ts';
import { CANCEL_REQUEST_CODE, GSSENC_REQUEST_CODE, SSL_REQUEST_CODE } from '../wire/startup.ts';
import type { StartupMessage } from '../wire/startup.ts';
import type { StartupPacket } from '../wire/startup-decoder.ts';

/** What to do with a packet. */
export type StartupAction =
  /** Write `N` and wait for the next packet. */
  | { readonly kind: 'decline-encryption' }
  | { readonly kind: 'cancel'; readonly pid: number; readonly key: Uint8Array }
  /** Close without an answer; `text` is for the log. */
  | { readonly kind: 'close'; readonly text: string }
  | { readonly kind: 'session'; readonly message: StartupMessage }
  /** Send the error and close; `declineFirst`: the `N` that was due goes before it. */
  | { readonly kind: 'refuse'; readonly error: ErrorFields; readonly declineFirst: boolean };

/** One connection up to its StartupMessage. */
export class StartupMachine {
  #hasAskedTls = false;
  #hasAskedGss = false;

  /** `bytesBehind`: bytes already received behind this packet. `protocolMinorMax` goes into the text of a refusal. */
  onPacket(packet: StartupPacket, bytesBehind: number, protocolMinorMax: number): StartupAction {
    const { code } = packet;
    if (code === SSL_REQUEST_CODE && !this.#hasAskedTls) {
      this.#hasAskedTls = true;
      return decline(bytesBehind, 'received unencrypted data after SSL request');
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
      return refuse(error.code, error.message);
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

/** Why a first packet has no valid length, for the log. */
export function invalidLengthText(firstByte: number): string {
  // 0x16: a TLS handshake record, as a client with sslnegotiation=direct sends it.
  return firstByte === 0x16
    ? 'direct TLS connection requested, TLS is not offered'
    : 'invalid length of startup packet';
}

/** What is in the buffer behind the request was not encrypted, and may have been put there by somebody else (CVE-2021-23214). */
function decline(bytesBehind: number, smuggled: string): StartupAction {
  if (bytesBehind === 0) return { kind: 'decline-encryption' };
  const error: ErrorFields = {
    severity: 'FATAL',
    sqlstate: SQLSTATE.protocolViolation,
    message: smuggled,
    detail:
      'This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
  };
  return { kind: 'refuse', error, declineFirst: true };
}

function refuse(sqlstate: string, message: string): StartupAction {
  return {
    kind: 'refuse',
    error: { severity: 'FATAL', sqlstate, message },
    declineFirst: false,
  };
}
