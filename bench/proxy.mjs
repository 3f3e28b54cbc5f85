// A process that does nothing but hand bytes on between a standby and the primary: what any process on the way costs a commit.
import { connect, createServer } from 'node:net';
import { answerQuestions } from './child.mjs';

answerQuestions({ listen });

/** Connects everybody who comes to that port of this machine. Resolves to our own port. @param {number} port */
function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true }, (standby) => {
      const primary = connect({ host: '127.0.0.1', port, noDelay: true });
      for (const [from, to] of [
        [standby, primary],
        [primary, standby],
      ]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}
