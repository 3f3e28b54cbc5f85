// What does a walcast itself read from its sockets and write to them? Loaded into its process before the program
// (`node --import`), writes everything down as it passes, and changes nothing. For networks where a recorder on the way would be
// the one to see what the kernel does. tap-ledger.ts reads it.
//
// A record: kind (u8: 1 opened, 2 read, 3 written, 4 closed), connection (u32), length (u32), that many bytes. Of a
// connection that is opened: JSON of its role and of the peer's address.
import { openSync, writevSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { isMainThread } from 'node:worker_threads';

const OPENED = 1;
const READ = 2;
const WRITTEN = 3;
const CLOSED = 4;

const base = process.env['WALCAST_TEST_TAP'];
if (isMainThread && base !== undefined) tapSockets(base);

function tapSockets(path) {
  const file = openSync(`${path}.${Date.now()}-${process.pid}`, 'a', 0o644);
  let connections = 0;

  const note = (kind, connection, bytes) => {
    const head = Buffer.allocUnsafe(9);
    head[0] = kind;
    head.writeUInt32BE(connection, 1);
    head.writeUInt32BE(bytes.length, 5);
    writevSync(file, [head, bytes]);
  };

  const open = (role, peer) => {
    connections += 1;
    note(OPENED, connections, Buffer.from(JSON.stringify({ role, ...peer })));
    return connections;
  };

  const tapWrites = (socket, connection) => {
    const { write } = socket;
    socket.write = function tapped(chunk, ...rest) {
      if (chunk instanceof Uint8Array && chunk.length > 0) note(WRITTEN, connection, chunk);
      return write.call(this, chunk, ...rest);
    };
    socket.once('close', () => note(CLOSED, connection, Buffer.alloc(0)));
  };

  const tapReads = (socket, connection) => {
    const { push } = socket;
    socket.push = function tapped(chunk, ...rest) {
      if (chunk instanceof Uint8Array) note(READ, connection, chunk);
      return push.call(this, chunk, ...rest);
    };
  };

  const { connect, createServer } = net;
  net.connect = (options, ...rest) => {
    if (typeof options !== 'object' || options.port === undefined || options.onread === undefined)
      return connect(options, ...rest);
    const connection = open('client', { host: options.host, port: options.port });
    const { onread } = options;
    const callback = (byteCount, bytes) => {
      note(READ, connection, bytes.subarray(0, byteCount));
      return onread.callback(byteCount, bytes);
    };
    const tapped = { buffer: onread.buffer, callback };
    const socket = connect({ ...options, onread: tapped }, ...rest);
    tapWrites(socket, connection);
    return socket;
  };
  net.createServer = (...args) => {
    const server = createServer(...args);
    server.prependListener('connection', (socket) => {
      if (socket.remoteAddress === undefined) return;
      const { remoteAddress: host, remotePort: port } = socket;
      const connection = open('server', { host, port });
      tapWrites(socket, connection);
      tapReads(socket, connection);
    });
    return server;
  };
  syncBuiltinESMExports();
}
