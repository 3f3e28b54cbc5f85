// One end of `bench handoff`: gives WAL to another process over a Unix socket, takes it, or reads it from a file. Each
// end reports its own CPU seconds.
import { closeSync, openSync, readSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { answerQuestions } from './child.mjs';

answerQuestions({ listen, give, take, readFile });

/** @type {import('node:net').Server} */
const server = createServer();

/** Opens the socket. @param {{ path: string }} options */
function listen({ path }) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(null));
  });
}

/** Sends `bytes` to who connects. @param {{ batchBytes: number, bytes: number }} options */
function give({ batchBytes, bytes }) {
  const batch = Buffer.alloc(batchBytes, 0x77);
  return new Promise((resolve, reject) => {
    server.once('connection', (/** @type {import('node:net').Socket} */ socket) => {
      const cpuBefore = process.cpuUsage();
      let left = bytes;
      const next = () => {
        if (left <= 0) {
          server.close();
          socket.end(() => resolve(seconds(cpuBefore)));
          return;
        }
        left -= batchBytes;
        // 'drain' follows only a write that the kernel did not take at once.
        if (socket.write(batch)) setImmediate(next);
      };
      socket.on('drain', () => setImmediate(next));
      socket.on('error', reject);
      next();
    });
  });
}

/** Connects to `path` and reads to the end. @param {{ path: string, batchBytes: number }} options */
function take({ path, batchBytes }) {
  return new Promise((resolve, reject) => {
    const cpuBefore = process.cpuUsage();
    const buffer = Buffer.allocUnsafeSlow(batchBytes);
    const socket = connect({ path, onread: { buffer, callback: () => true } });
    socket.on('error', reject);
    socket.on('close', () => resolve(seconds(cpuBefore)));
  });
}

/** Reads a file again and again until `bytes` are read. @param {{ path: string, batchBytes: number, bytes: number }} options */
function readFile({ path, batchBytes, bytes }) {
  const file = openSync(path, 'r');
  const buffer = Buffer.allocUnsafeSlow(batchBytes);
  const cpuBefore = process.cpuUsage();
  let position = 0;
  for (let done = 0; done < bytes;) {
    const count = readSync(file, buffer, 0, batchBytes, position);
    done += count;
    position = count < batchBytes ? 0 : position + count;
  }
  closeSync(file);
  return seconds(cpuBefore);
}

/** @param {NodeJS.CpuUsage} before */
function seconds(before) {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
