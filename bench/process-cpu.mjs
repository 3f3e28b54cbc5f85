// What did a process cost: CPU seconds of all its threads, and its peak memory, from Linux's /proc.
import { readFileSync, readdirSync } from 'node:fs';

/** The kernel's USER_HZ: 100 on every Linux that Node.js runs on. (proc_pid_stat(5)) */
const TICKS_PER_SECOND = 100;

// Positions in /proc/PID/stat behind the closing parenthesis of the command's name; state is 0.
const UTIME = 11;
const STIME = 12;

/**
 * CPU seconds (user, system) that the process has used so far; threads that have ended are included. Resolution 10 ms.
 * @param {number} pid
 * @returns {{ user: number, system: number, total: number }}
 */
export function cpuSeconds(pid) {
  return statSeconds(`/proc/${pid}/stat`);
}

/**
 * The sum over several processes. One that is gone counts as an error, because its seconds would be missing.
 * @param {readonly number[]} pids
 * @returns {number}
 */
export function cpuSecondsOfAll(pids) {
  return pids.reduce((sum, pid) => sum + cpuSeconds(pid).total, 0);
}

/**
 * CPU seconds by thread that still runs, the main thread first.
 * @param {number} pid
 * @returns {Map<number, { name: string, seconds: number }>}
 */
export function cpuSecondsByThread(pid) {
  const threads = new Map();
  for (const task of readdirSync(`/proc/${pid}/task`).map(Number)) {
    const folder = `/proc/${pid}/task/${task}`;
    const name = task === pid ? 'main' : readFileSync(`${folder}/comm`, 'utf8').trim();
    threads.set(task, { name, seconds: statSeconds(`${folder}/stat`).total });
  }
  return threads;
}

/**
 * Peak resident memory in bytes since the start.
 * @param {number} pid
 * @returns {number}
 */
export function peakRssBytes(pid) {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return match === null ? 0 : Number(match[1]) * 1024;
}

/**
 * What one thread has read and written so far, and in how many system calls. All zero where the kernel does not tell.
 * @param {number} pid
 * @param {number} thread
 */
export function ioOfThread(pid, thread) {
  let text = '';
  try {
    text = readFileSync(`/proc/${pid}/task/${thread}/io`, 'utf8');
  } catch {
    // Built without task accounting, or not ours to look at.
  }
  const count = (/** @type {string} */ name) =>
    Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  return {
    read: count('rchar'),
    readCalls: count('syscr'),
    written: count('wchar'),
    writeCalls: count('syscw'),
  };
}

/** @param {string} path */
function statSeconds(path) {
  const text = readFileSync(path, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const user = Number(fields[UTIME]) / TICKS_PER_SECOND;
  const system = Number(fields[STIME]) / TICKS_PER_SECOND;
  return { user, system, total: user + system };
}
