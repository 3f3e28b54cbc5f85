// The other side of `bench tls`: connections that read and count, nothing else.
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { answerQuestions } from './child.mjs';

const READ_BUFFER_BYTES = 256 << 10;

/** @type {import('node:net').Socket[]} */
let sockets = [];
let bytes = 0;
let wanted = Number.POSITIVE_INFINITY;
/** @type {(() => void) | null} */
let onWanted = null;

answerQuestions({ connect, received, close });

/** @param {{ port: number, receivers: number, isEncrypted: boolean, cert: string }} options */
async function connect({ port, receivers, isEncrypted, cert }) {
  bytes = 0;
  wanted = Number.POSITIVE_INFINITY;
  sockets = await Promise.all(
    Array.from({ length: receivers }, () => (isEncrypted ? openTls(port, cert) : openTcp(port))),
  );
}

/** Waits for that many bytes, headers included, over all connections. @param {number} count */
function received(count) {
  return new Promise((resolve) => {
    wanted = count;
    onWanted = () => resolve(null);
    take(0);
  });
}

function close() {
  for (const socket of sockets) socket.destroy();
}

/** @param {number} count */
function take(count) {
  bytes += count;
  if (bytes < wanted || onWanted === null) return;
  onWanted();
  onWanted = null;
}

/** @param {number} port @returns {Promise<import('node:net').Socket>} */
function openTcp(port) {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({
      host: '127.0.0.1',
      port,
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
        callback: (count) => {
          take(count);
          return true;
        },
      },
    });
    socket.once('connect', () => resolve(socket));
    socket.on('error', reject);
  });
}

/** @param {number} port @param {string} cert @returns {Promise<import('node:net').Socket>} */
function openTls(port, cert) {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, ca: cert, servername: 'localhost' });
    socket.once('secureConnect', () => resolve(socket));
    socket.on('data', (chunk) => take(chunk.length));
    socket.on('error', reject);
  });
}
