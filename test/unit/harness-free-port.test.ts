// Is a port that was given to somebody given to nobody else, in this process or another one, while it stands free?
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { freePort } from '../harness/free-port.ts';

it('no port is given twice while the process runs, and one that is given can be listened on', async () => {
  const ports = await Promise.all(Array.from({ length: 100 }, () => freePort()));
  expect(new Set(ports).size).toBe(100);
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(ports[0], '127.0.0.1', resolve);
  });
  server.close();
});

it('another process finds it taken', async () => {
  const port = await freePort();
  const program = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('error', (error) => { console.log(error.code); process.exit(); });
    socket.bind(${port}, '127.0.0.1', () => { console.log('bound'); socket.close(); });
  `;
  const { stdout } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  expect(stdout.trim()).toBe('EADDRINUSE');
});
