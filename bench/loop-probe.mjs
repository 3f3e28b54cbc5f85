// Loaded into the walcast that is measured: how long does one turn of its event loop take at most? Asked over a Unix socket.
import { openSync, readSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const path = process.env['BENCH_LOOP_PROBE'] ?? '';
const SETTLE_MS = 20;

/** CPU time of the main thread alone, nanoseconds. (Linux: Documentation/scheduler/sched-stats.rst) */
const statistics = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r');
const text = Buffer.alloc(128);
function cpuNanoseconds() {
  // The kernel brings the figure of the running thread up to date when it is asked for this one, else at each of its ticks.
  process.cpuUsage();
  const length = readSync(statistics, text, 0, text.length, 0);
  return Number(text.toString('latin1', 0, length).split(' ')[0]);
}

const delay = monitorEventLoopDelay({ resolution: 1 });
let isSpinning = false;
let longestCpu = 0;

/** Every turn is looked at: by the processor's clock, which stands still while others run on this machine. */
function spin() {
  let last = cpuNanoseconds();
  const onTurn = () => {
    const now = cpuNanoseconds();
    longestCpu = Math.max(longestCpu, now - last);
    last = now;
    if (isSpinning) setImmediate(onTurn);
  };
  isSpinning = true;
  setImmediate(onTurn);
}

/** @type {Record<string, () => number>} */
const QUESTIONS = {
  wall: () => {
    delay.enable();
    return 0;
  },
  wallEnd: () => {
    const longest = delay.max / 1e6;
    delay.disable();
    delay.reset();
    return longest;
  },
  cpu: () => {
    spin();
    setTimeout(() => (longestCpu = 0), SETTLE_MS / 2);
    return 0;
  },
  cpuEnd: () => {
    isSpinning = false;
    return longestCpu / 1e6;
  },
};

if (path !== '') {
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    socket.on('data', (data) => {
      const question = QUESTIONS[data.toString()];
      // What was asked for begins with the next turns, and what happened just now is part of it.
      setTimeout(() => {
        const answer = question?.() ?? 0;
        setTimeout(() => socket.end(String(answer)), SETTLE_MS);
      }, SETTLE_MS);
    });
    socket.on('error', () => {});
  });
  server.listen(path);
  server.unref();
}
