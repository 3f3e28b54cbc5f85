// A port that stays the same over restarts of whoever listens on it: taken from below the range that systems use for
// outgoing connections, and apart from the one the servers draw from (20000 to 29999). Files that run at the same time draw
// from ranges of their own: a port whose owner is restarted stays free for it.
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

const PORT_MIN = 12_000;
const PORT_MAX = 19_999;
const ATTEMPTS_MAX = 50;
const RANGES = 4;
const RANGE_PORTS = Math.floor((PORT_MAX - PORT_MIN) / RANGES);

/** Vitest numbers its workers from 1 on. */
const FIRST_PORT: number =
  PORT_MIN + (Number(process.env['VITEST_POOL_ID'] ?? '0') % RANGES) * RANGE_PORTS;

let drawn = randomInt(RANGE_PORTS);

/** A port on 127.0.0.1 that nobody listens on at this moment, and that this process was not given before. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    // One behind the other: two ports drawn by chance for one program are the same one now and then.
    drawn = (drawn + 1) % RANGE_PORTS;
    const port = FIRST_PORT + drawn;
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port from ${FIRST_PORT} on in ${ATTEMPTS_MAX} attempts`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
