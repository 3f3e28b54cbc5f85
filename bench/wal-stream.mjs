// One receiver of the bench: a physical replication session over raw TCP that skips WAL by its length, so that the
// receiving side costs as little as it can. Answers keepalives; says what it has when asked to.
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

const READ_BUFFER_BYTES = 256 << 10;
const PROTOCOL_3_0 = 196608;
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const POSTGRES_EPOCH_MS = 946_684_800_000;

// How many bytes of a frame are looked at; the rest is skipped.
const FRAME_HEADER_BYTES = 5;
const WAL_HEAD_BYTES = FRAME_HEADER_BYTES + 1 + 8;
const WAL_DATA_HEADER_BYTES = 25;
const KEEPALIVE_FRAME_BYTES = FRAME_HEADER_BYTES + 18;

const LETTER = {
  copyData: 0x64,
  copyBoth: 0x57,
  error: 0x45,
  ready: 0x5a,
  yes: 0x53,
  wal: 0x77,
  keepalive: 0x6b,
};

/**
 * @typedef {object} StreamTarget
 * @property {number} port on 127.0.0.1
 * @property {string} user
 * @property {string} applicationName
 * @property {string} startLsn as PostgreSQL prints it
 * @property {number} timeline
 * @property {boolean} [hasTls] inside TLS; the certificate is not looked at
 */

/** A streaming session. `endLsn` is a number: exact below 2^53. */
export class WalStream {
  /** End (exclusive) of the WAL received in whole messages. */
  endLsn = 0;
  /** WAL bytes received in whole messages. */
  walBytes = 0;
  /** WAL messages received. */
  messages = 0;
  /** Called after each read that completed a message. */
  onProgress = () => {};
  /** @type {(error: Error) => void} */
  onFailure = () => {};

  /** @type {import('node:net').Socket} */
  #socket;
  #head = Buffer.alloc(64);
  #headBytes = 0;
  #skipBytes = 0;
  #pendingEndLsn = 0;
  #pendingWalBytes = 0;
  #control = Buffer.alloc(0);
  #isStreaming = false;
  /** @type {((message: { type: number, body: Buffer }) => void) | null} */
  #onControl = null;
  /** @type {((answer: number) => void) | null} */
  #onPlainAnswer = null;

  /** @param {number} port */
  constructor(port) {
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
        callback: (count, buffer) => {
          this.#take(buffer.subarray(0, count));
          return true;
        },
      },
    });
    this.#socket.on('error', (error) => this.onFailure(error));
    this.#socket.on('close', () => this.onFailure(new Error('the server closed the connection')));
  }

  /**
   * Logs in and starts streaming. Rejects with the server's error.
   * @param {StreamTarget} target
   */
  async start(target) {
    if (target.hasTls === true) await this.#startTls();
    this.#socket.write(startupMessage(target));
    await this.#until(LETTER.ready);
    this.#query('IDENTIFY_SYSTEM');
    await this.#until(LETTER.ready);
    const end = parseLsn(target.startLsn);
    this.endLsn = end;
    this.#query(`START_REPLICATION PHYSICAL ${target.startLsn} TIMELINE ${target.timeline}`);
    await this.#until(LETTER.copyBoth);
  }

  /** Asks for TLS, and goes on inside of it. @returns {Promise<void>} */
  #startTls() {
    const plain = this.#socket;
    plain.write(SSL_REQUEST);
    return new Promise((resolve, reject) => {
      this.onFailure = reject;
      this.#onPlainAnswer = (answer) => {
        this.#onPlainAnswer = null;
        if (answer !== LETTER.yes) return reject(new Error('the server does not speak TLS'));
        const socket = connectTls({ socket: plain, rejectUnauthorized: false }, resolve);
        socket.on('data', (chunk) => this.#take(chunk));
        socket.on('error', (error) => this.onFailure(error));
        this.#socket = socket;
        return undefined;
      };
    });
  }

  /** Tells the server that everything received is written, flushed and replayed. */
  sendStatus() {
    const message = Buffer.alloc(39);
    message[0] = LETTER.copyData;
    message.writeUInt32BE(38, 1);
    message[5] = 0x72;
    for (const at of [6, 14, 22]) message.writeBigUInt64BE(BigInt(this.endLsn), at);
    message.writeBigInt64BE(BigInt(Date.now() - POSTGRES_EPOCH_MS) * 1000n, 30);
    this.#socket.write(message);
  }

  resetCounts() {
    this.walBytes = 0;
    this.messages = 0;
  }

  close() {
    this.onFailure = () => {};
    this.#socket.destroy();
  }

  /** @param {string} sql */
  #query(sql) {
    const text = Buffer.from(`${sql}\0`);
    const message = Buffer.alloc(5);
    message[0] = 0x51;
    message.writeUInt32BE(4 + text.length, 1);
    this.#socket.write(Buffer.concat([message, text]));
  }

  /** Reads control messages up to one of that type. @param {number} type @returns {Promise<void>} */
  #until(type) {
    return new Promise((resolve, reject) => {
      this.onFailure = reject;
      this.#onControl = (message) => {
        if (message.type === LETTER.error) reject(new Error(errorMessage(message.body)));
        if (message.type === type) resolve();
      };
    });
  }

  /** @param {Buffer} chunk */
  #take(chunk) {
    if (this.#onPlainAnswer !== null) this.#onPlainAnswer(chunk[0] ?? 0);
    else if (this.#isStreaming) this.#stream(chunk);
    else this.#readControl(chunk);
  }

  /** @param {Buffer} chunk */
  #readControl(chunk) {
    let rest = Buffer.concat([this.#control, chunk]);
    while (!this.#isStreaming && rest.length >= FRAME_HEADER_BYTES) {
      const total = 1 + rest.readUInt32BE(1);
      if (rest.length < total) break;
      const type = rest[0] ?? 0;
      this.#isStreaming = type === LETTER.copyBoth;
      this.#onControl?.({ type, body: rest.subarray(FRAME_HEADER_BYTES, total) });
      rest = rest.subarray(total);
    }
    this.#control = this.#isStreaming ? Buffer.alloc(0) : rest;
    if (this.#isStreaming) this.#stream(rest);
  }

  /** @param {Buffer} chunk */
  #stream(chunk) {
    let at = 0;
    const messagesBefore = this.messages;
    while (at < chunk.length) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at);
        at += skipped;
        this.#skipBytes -= skipped;
        if (this.#skipBytes === 0) this.#finishWal();
      } else {
        at = this.#readHead(chunk, at);
      }
    }
    if (this.messages !== messagesBefore) this.onProgress();
  }

  /** Collects a frame's first bytes, and acts once there are enough. @param {Buffer} chunk @param {number} at */
  #readHead(chunk, at) {
    const head = this.#head;
    head[this.#headBytes] = chunk[at] ?? 0;
    this.#headBytes += 1;
    if (this.#headBytes <= FRAME_HEADER_BYTES) return at + 1;
    const kind = head[FRAME_HEADER_BYTES];
    if (head[0] !== LETTER.copyData) {
      this.onFailure(new Error(`message "${String.fromCharCode(head[0] ?? 0)}" inside the stream`));
      this.close();
      return chunk.length;
    }
    if (kind === LETTER.wal && this.#headBytes === WAL_HEAD_BYTES) {
      const dataBytes = head.readUInt32BE(1) - 4 - WAL_DATA_HEADER_BYTES;
      this.#pendingWalBytes = dataBytes;
      this.#pendingEndLsn = readLsn(head, FRAME_HEADER_BYTES + 1) + dataBytes;
      this.#skipBytes = head.readUInt32BE(1) + 1 - WAL_HEAD_BYTES;
      this.#headBytes = 0;
    } else if (kind === LETTER.keepalive && this.#headBytes === KEEPALIVE_FRAME_BYTES) {
      if (head[KEEPALIVE_FRAME_BYTES - 1] === 1) this.sendStatus();
      this.#headBytes = 0;
    }
    return at + 1;
  }

  #finishWal() {
    if (this.#pendingEndLsn !== this.endLsn + this.#pendingWalBytes) {
      this.onFailure(new Error(`gap or repeat in the stream before ${this.#pendingEndLsn}`));
    }
    this.messages += 1;
    this.walBytes += this.#pendingWalBytes;
    this.endLsn = this.#pendingEndLsn;
  }
}

/**
 * `16/B374D848` as a number. Exact below 2^53, which no new cluster reaches.
 * @param {string} text
 */
export function parseLsn(text) {
  const [high = '', low = ''] = text.split('/');
  return Number.parseInt(high, 16) * 2 ** 32 + Number.parseInt(low, 16);
}

/** As PostgreSQL prints it. @param {number} lsn */
export function formatLsn(lsn) {
  const high = Math.floor(lsn / 2 ** 32).toString(16);
  return `${high}/${(lsn % 2 ** 32).toString(16)}`.toUpperCase();
}

/** @param {Buffer} buffer @param {number} at */
function readLsn(buffer, at) {
  return buffer.readUInt32BE(at) * 2 ** 32 + buffer.readUInt32BE(at + 4);
}

/** @param {StreamTarget} target */
function startupMessage({ user, applicationName }) {
  const words = ['user', user, 'database', 'replication', 'replication', 'true'];
  const text = Buffer.from([...words, 'application_name', applicationName, '', ''].join('\0'));
  const message = Buffer.alloc(8);
  message.writeUInt32BE(8 + text.length, 0);
  message.writeUInt32BE(PROTOCOL_3_0, 4);
  return Buffer.concat([message, text]);
}

/** Severity, SQLSTATE and text of an ErrorResponse. @param {Buffer} body */
function errorMessage(body) {
  const fields = body.toString('utf8').split('\0');
  return fields
    .filter((field) => /^[VCMDH]/.test(field))
    .map((field) => field.slice(1))
    .join(' ');
}
