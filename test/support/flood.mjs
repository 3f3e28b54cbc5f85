// A crowd of strangers, in a process of its own so that it measures nothing of the one who looks on: what it is to do comes
// as JSON in argv[2]; standard output gets what it has done so far as a line of JSON, from its first connection on now and then,
// and when standard input ends.
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/**
 * @typedef {object} Flood
 * @property {'idle' | 'drip' | 'hoard' | 'passwords' | 'lengths' | 'pipeline'} kind
 * @property {string} host
 * @property {number} port
 * @property {number} connections held open, or how many there are at one time
 * @property {number} perSecond new connections in a second at most
 * @property {string[]} addresses it comes from, by turns
 * @property {boolean} [tls] inside TLS, after an SSLRequest
 * @property {string} [drip] what is sent a byte at a time; the last byte never
 * @property {string} [user]
 */

/** @type {Flood} */
const flood = JSON.parse(process.argv[2] ?? '{}');
/** @type {Record<string, number>} */
const counts = { begun: 0, opened: 0, refused: 0, closed: 0, answered: 0, openMax: 0, errors: 0 };
let open = 0;
let isOver = false;

const TICK_MS = 20;
const REPORT_MS = 100;
/** How many more may be opened now. */
let allowance = 0;

const kinds = { idle, drip, hoard, passwords, lengths, pipeline };
const timer = setInterval(tick, TICK_MS);
process.stdin.resume();
process.stdin.on('end', finish);

function tick() {
  allowance = Math.min(flood.perSecond, allowance + (flood.perSecond * TICK_MS) / 1000);
  while (!isOver && allowance >= 1 && open < flood.connections) {
    allowance -= 1;
    begin();
  }
}

function finish() {
  isOver = true;
  clearInterval(timer);
  report(() => process.exit(0));
}

/** @param {() => void} [then] */
function report(then) {
  process.stdout.write(`${JSON.stringify({ ...counts, open })}\n`, then);
}

function begin() {
  const localAddress = flood.addresses[counts.opened % flood.addresses.length];
  const socket = connect({ host: flood.host, port: flood.port, localAddress, noDelay: true });
  counts.opened += 1;
  open += 1;
  counts.openMax = Math.max(counts.openMax, open);
  let isConnected = false;
  socket.on('connect', () => {
    counts.begun += 1;
    if (counts.begun === 1) {
      report();
      setInterval(report, REPORT_MS);
    }
    isConnected = true;
    if (flood.tls !== true) kinds[flood.kind](socket);
    else secure(socket);
  });
  socket.on('error', () => (counts.errors += 1));
  socket.on('close', () => {
    open -= 1;
    counts[isConnected ? 'closed' : 'refused'] += 1;
  });
}

/** @param {import('node:net').Socket} socket */
function secure(socket) {
  socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]));
  socket.once('data', (answer) => {
    if (answer[0] !== 0x53) return socket.destroy();
    const inside = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['postgresql'] });
    inside.on('error', () => socket.destroy());
    inside.on('secureConnect', () => kinds[flood.kind](inside));
  });
}

/** @typedef {import('node:net').Socket} Socket */

/** @param {Socket} socket */
function idle(socket) {
  socket.on('data', () => {});
}

/** A byte a second, of something that is never whole. @param {Socket} socket */
function drip(socket) {
  const bytes = Buffer.from(flood.drip ?? '', 'latin1');
  let sent = 0;
  socket.on('data', () => {});
  const dripping = setInterval(() => {
    if (sent < bytes.length - 1) socket.write(bytes.subarray(sent, sent + 1));
    sent += 1;
  }, 1_000);
  socket.on('close', () => clearInterval(dripping));
}

/** The longest startup packet there may be, but for its last byte. @param {Socket} socket */
function hoard(socket) {
  socket.on('data', () => {});
  socket.write(Buffer.concat([int32(10_004), Buffer.alloc(9_999, 0x41)]));
}

/** SCRAM to its end with a proof that is none: cheaper for the guesser than any guess. @param {Socket} socket */
function passwords(socket) {
  let input = Buffer.alloc(0);
  socket.write(startup());
  socket.on('data', (chunk) => {
    input = Buffer.concat([input, chunk]);
    while (input.length >= 5 && input.length >= 1 + input.readInt32BE(1)) {
      const end = 1 + input.readInt32BE(1);
      onMessage(socket, String.fromCharCode(input[0] ?? 0), input.subarray(5, end));
      input = input.subarray(end);
    }
  });
}

/** @param {Socket} socket @param {string} type @param {Buffer} body */
function onMessage(socket, type, body) {
  if (type === 'E') {
    counts.answered += 1;
    socket.end();
    return;
  }
  const what = type === 'R' ? body.readInt32BE(0) : -1;
  if (what === 10) {
    const first = Buffer.from('n,,n=,r=0123456789abcdefghijkl');
    socket.write(message('p', text('SCRAM-SHA-256'), int32(first.length), first));
  } else if (what === 11) {
    const nonce = /r=([^,]+)/.exec(body.toString('latin1', 4))?.[1] ?? '';
    const proof = Buffer.alloc(32, counts.opened & 0xff).toString('base64');
    socket.write(message('p', Buffer.from(`c=biws,r=${nonce},p=${proof}`)));
  }
}

let lengthsSent = 0;

/** Lengths of two gigabytes, before the login and behind it. @param {Socket} socket */
function lengths(socket) {
  const huge = Buffer.concat([Buffer.from('Q'), int32(0x7fffffff), Buffer.alloc(65_536, 0x41)]);
  const data = Buffer.concat([Buffer.from('d'), int32(0x3fffffff), Buffer.alloc(65_536, 0x72)]);
  const inputs = [
    [Buffer.concat([int32(0x7fffffff), Buffer.alloc(65_536)])],
    [Buffer.concat([startup(), message('p', text('x')), huge])],
    [startup(), huge],
    [startup(), message('Q', text('START_REPLICATION 0/1000000')), data],
  ];
  socket.on('data', () => {});
  for (const bytes of inputs[lengthsSent % inputs.length] ?? []) socket.write(bytes);
  lengthsSent += 1;
}

/** Commands by the hundred thousand, of whose answers none is read. @param {Socket} socket */
function pipeline(socket) {
  const commands = Buffer.concat(Array(1_000).fill(message('Q', text('IDENTIFY_SYSTEM'))));
  let left = 100;
  socket.write(startup());
  socket.pause();
  const more = () => {
    while (left > 0 && !socket.destroyed) {
      left -= 1;
      counts.answered += 1_000;
      if (!socket.write(commands)) return;
    }
  };
  socket.on('drain', more);
  more();
}

function startup() {
  const user = flood.user ?? 'postgres';
  const body = Buffer.concat([
    int32(196_608),
    ...['user', user, 'replication', 'true', 'application_name', 'flood'].map(text),
    Buffer.from([0]),
  ]);
  return Buffer.concat([int32(body.length + 4), body]);
}

/** @param {string} type @param {Buffer[]} parts */
function message(type, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

/** @param {number} value */
function int32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** @param {string} value */
function text(value) {
  return Buffer.from(`${value}\0`);
}
