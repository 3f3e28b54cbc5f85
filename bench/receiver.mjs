// All receivers of one side, in one process: either directly at the primary or at walcast.
import { WalStream } from './wal-stream.mjs';
import { answerQuestions } from './child.mjs';

const STATUS_INTERVAL_MS = 1_000;
const SPREAD_PARTS = 100;

/** @type {WalStream[]} */
let streams = [];
/** @type {Error | null} */
let failure = null;
/** @type {{ lsn: number, resolve: (value: unknown) => void, reject: (error: Error) => void } | null} */
let waiting = null;

answerQuestions({ connect, waitFor, counts, reset, close });
/** Every stream reports once in an interval: all together, or spread over it as standbys that know nothing of each other. */
let parts = 1;
let part = 0;
setTimeout(report, STATUS_INTERVAL_MS);

function report() {
  for (let index = part; index < streams.length; index += parts) streams[index]?.sendStatus();
  part = (part + 1) % parts;
  setTimeout(report, STATUS_INTERVAL_MS / parts);
}

/**
 * @param {Omit<import('./wal-stream.mjs').StreamTarget, 'applicationName'>
 *   & { count: number, name: string, isSpread?: boolean }} options
 */
async function connect(options) {
  const opened = Array.from({ length: options.count }, () => new WalStream(options.port));
  for (const [index, stream] of opened.entries()) {
    await stream.start({ ...options, applicationName: `${options.name}_${index}` });
    stream.onFailure = (error) => fail(new Error(`${options.name}_${index}: ${error.message}`));
    stream.onProgress = lookWhetherReached;
  }
  streams = opened;
  parts = options.isSpread === true ? SPREAD_PARTS : 1;
}

/** Resolves once every receiver has everything before that position. @param {number} lsn */
function waitFor(lsn) {
  return new Promise((resolve, reject) => {
    waiting = { lsn, resolve, reject };
    if (failure !== null) reject(failure);
    lookWhetherReached();
  });
}

/** WAL bytes and messages received so far, all receivers together. */
function counts() {
  return {
    walBytes: streams.reduce((sum, stream) => sum + stream.walBytes, 0),
    messages: streams.reduce((sum, stream) => sum + stream.messages, 0),
  };
}

/** Counts from here on. */
function reset() {
  for (const stream of streams) stream.resetCounts();
}

function close() {
  for (const stream of streams) stream.close();
  streams = [];
}

function lookWhetherReached() {
  const wanted = waiting;
  if (wanted === null || streams.some((stream) => stream.endLsn < wanted.lsn)) return;
  waiting = null;
  wanted.resolve(null);
}

/** @param {Error} error */
function fail(error) {
  failure ??= error;
  waiting?.reject(failure);
  waiting = null;
}
