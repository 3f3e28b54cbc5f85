// One end of `bench handoff`: gives WAL to another process over a Unix socket, takes it, or reads it from a file. Each
// end reports its own CPU seconds.
import { closeSync, openSync, readSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { answerQuestions } from './child.mjs';

answerQuestions({ give, take, readFile });

/** Listens on `path` and sends `bytes` to who comes. @param {{ path: string, batchBytes: number, bytes: number }} options */
function give({ path, batchBytes, bytes }) {
  const batch = Buffer.alloc(batchBytes, 0x77);
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      const cpuBefore = process.cpuUsage();
      let left = bytes;
      const next = () => {
        if (left <= 0) {
          server.close();
          socket.end(() => resolve(seconds(cpuBefore)));
          return;
        }
        left -= batchBytes;
        socket.write(batch);
      };
      socket.on('drain', () => setImmediate(next));
      socket.on('error', reject);
      next();
    });
    server.on('error', reject);
    server.listen(path);
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
