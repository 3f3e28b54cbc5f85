// A port that stays the same over restarts of whoever listens on it: taken from below the range that systems use for
// outgoing connections, and apart from the one the servers draw from (20000 to 29999). It belongs to this process until that
// ends, however many files and runs share the machine: what stops and starts again finds it free.
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

const PORT_MIN = 12_000;
const PORTS = 8_000;
const ATTEMPTS_MAX = 200;

let drawn = randomInt(PORTS);

/** A port on 127.0.0.1 that nobody listens on at this moment, and that nobody else is given while this process runs. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    drawn = (drawn + 1) % PORTS;
    const port = PORT_MIN + drawn;
    if ((await reserved(port)) && (await isFree(port))) return port;
  }
  throw new Error(`no free port from ${PORT_MIN} on in ${ATTEMPTS_MAX} attempts`);
}

/** Takes the port of that number where nobody wants it, over UDP, and keeps it: what others who draw ports find taken. */
function reserved(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.unref();
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ port, address: '127.0.0.1', exclusive: true }, () => resolve(true));
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
