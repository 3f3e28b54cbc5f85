// The measured side of `bench tls`: sends the same immutable batch to every connection, the next one when the kernel
// has taken the last, as a walsender does with the hot tail. With TLS or without, everything else alike.
import { createServer as createTcpServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { answerQuestions } from './child.mjs';

const FRAME_DATA_BYTES = 128 << 10;
const FRAME_HEADER_BYTES = 30;

/** @type {import('node:net').Server[]} */
const servers = [];
/** @type {Set<import('node:net').Socket>} */
const sockets = new Set();
/** @type {(value?: unknown) => void} */
let onAccept = () => {};

answerQuestions({ listen, send, close });

/**
 * Opens the port. Returns it.
 * @param {{ isEncrypted: boolean, cert: string, key: string, ciphers: string }} options
 * @returns {Promise<number>}
 */
function listen({ isEncrypted, cert, key, ciphers }) {
  const accept = (/** @type {import('node:net').Socket} */ socket) => {
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    sockets.add(socket);
    onAccept();
  };
  const opened = isEncrypted
    ? createTlsServer({ cert, key, ciphers, minVersion: 'TLSv1.3' }, accept)
    : createTcpServer(accept);
  servers.push(opened);
  return new Promise((resolve, reject) => {
    opened.once('error', reject);
    opened.listen(0, '127.0.0.1', () => {
      const address = opened.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

/**
 * Sends to every connection. Returns what it cost this process, and how late the event loop was.
 * @param {{ receivers: number, batchBytes: number, bytesEach: number }} options
 */
async function send({ receivers, batchBytes, bytesEach }) {
  while (sockets.size < receivers) await new Promise((resolve) => (onAccept = resolve));
  const chunks = makeBatch(batchBytes);
  const rounds = Math.ceil(bytesEach / batchBytes);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  await Promise.all([...sockets].map((socket) => pump(socket, chunks, rounds)));
  const seconds = (performance.now() - startedMs) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  delay.disable();
  return {
    seconds,
    bytes: rounds * batchBytes * receivers,
    cpuUser: cpu.user / 1e6,
    cpuSystem: cpu.system / 1e6,
    loopDelayMaxMs: delay.max / 1e6,
    rssBytes: process.memoryUsage.rss(),
  };
}

/** Frames of at most 128 KiB of data with a header of their own each, as CopyData is cut. @param {number} batchBytes */
function makeBatch(batchBytes) {
  const data = Buffer.alloc(batchBytes);
  for (let at = 0; at < batchBytes; at += 4)
    data.writeUInt32LE(Math.imul(at, 0x9e3779b1) >>> 0, at);
  const chunks = [];
  for (let at = 0; at < batchBytes; at += FRAME_DATA_BYTES) {
    chunks.push(Buffer.alloc(FRAME_HEADER_BYTES, 0x77));
    chunks.push(data.subarray(at, at + FRAME_DATA_BYTES));
  }
  return chunks;
}

/**
 * One batch a turn of the event loop at most: a kernel that takes everything announces 'drain' before the turn ends, and
 * a loop that followed it would keep timers and other sockets waiting for as long as the receiver keeps up.
 * @param {import('node:net').Socket} socket
 * @param {readonly Buffer[]} chunks
 * @param {number} rounds
 * @returns {Promise<void>}
 */
function pump(socket, chunks, rounds) {
  return new Promise((resolve, reject) => {
    let left = rounds;
    const next = () => {
      if (left === 0) {
        resolve();
        return;
      }
      left -= 1;
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    };
    socket.on('drain', () => setImmediate(next));
    socket.once('close', () => reject(new Error('a receiver has gone')));
    next();
  });
}

/** Closes all connections and the port. */
function close() {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
}
