// Is every keepalive of the primary answered at once while a flush takes ten seconds, a standby is stopped and a crowd
// stands at the door? (P35)
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { streamsOf } from '../harness/ledger.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { DiskRig, injected } from './disk-rig.ts';
import { programPid, waitForState } from './fault-support.ts';
import type { Attempt } from './fault-support.ts';

const FLUSH_MS = 10_000;
const SENDER_TIMEOUT_MS = 2_000;
/** Questions that are waited for. The primary asks after half of its timeout without a word. */
const QUESTIONS = 8;
/** The promise is a tenth of it; this is what a machine with eight other things to do keeps. */
const ANSWER_MS_MAX = 1_000;

/** Connects again and again, says half a startup packet, and leaves it at that. */
const CROWD = `
  const { connect } = require('node:net');
  const open = new Set();
  setInterval(() => {
    for (let count = 0; count < 20; count += 1) {
      const socket = connect(Number(process.argv[1]), '127.0.0.1', () => socket.write(Buffer.from([0, 0, 1])));
      socket.on('error', () => {});
      socket.on('close', () => open.delete(socket));
      open.add(socket);
    }
    for (const socket of [...open].slice(0, Math.max(0, open.size - 200))) socket.destroy();
  }, 20);
`;

requires('strace', `postgres-${NEWEST_MAJOR}`).describe(
  'a keepalive that asks for an answer',
  () => {
    let rig: DiskRig;
    let started: Attempt;
    let crowd: ReturnType<typeof spawn> | null = null;

    beforeAll(async () => {
      rig = await DiskRig.open();
      await rig.primary.query(`ALTER SYSTEM SET wal_sender_timeout = '${SENDER_TIMEOUT_MS}ms'`);
      await rig.primary.reload();
      const directory = join(rig.workspace.directory, 'store');
      started = await rig.start(directory);
      await waitForState(started, 'streaming');
      await rig.followWithStandby();
      await rig.checkContent(started, directory);
      await started.process.stop('SIGTERM');
      started = await rig.start(directory, {
        wrapper: injected({ calls: 'fdatasync', what: `delay_enter=${FLUSH_MS * 1000}:when=6+` }),
      });
      await waitForState(started, 'streaming');
    });

    afterAll(async () => {
      crowd?.kill('SIGKILL');
      await rig.stop();
      await rig.close();
    });

    it('is answered at once, whatever the disk, a standby and a crowd do', async () => {
      const mark = rig.primary.log.mark();
      crowd = spawn(process.execPath, ['-e', CROWD, String(started.port)], { stdio: 'ignore' });
      await rig.stopStandby();
      await pollUntil(
        'a flush that takes its time',
        async () => {
          await rig.burst();
          // Longer than a flush takes that is let through.
          await new Promise<void>((resolve) => systemClock.setTimer(1_000, resolve));
          return unflushedBytes() > 0 ? true : null;
        },
        { timeoutMs: 30_000 },
      );
      await pollUntil(
        `${QUESTIONS} questions`,
        async () => (answerTimes().length >= QUESTIONS ? true : null),
        { timeoutMs: 60_000 },
      );
      const times = answerTimes();
      const max = Math.max(...times);
      process.stderr.write(
        `${times.length} keepalives, answered in at most ${max.toFixed(1)} ms\n`,
      );
      expect(rig.primary.log.textFrom(mark)).not.toMatch(/replication timeout/);
      expect(started.process.end).toBeNull();
      expect(max).toBeLessThan(ANSWER_MS_MAX);
      signalProcess(await programPid(started.process), 'SIGKILL');
    });

    /** WAL that has passed to walcast, and that it has not called durable. */
    function unflushedBytes(): number {
      const stream = streamsOf(rig.recorder.ledger).at(-1);
      const [wal, reply] = [stream?.wal.at(-1), stream?.replies.at(-1)];
      if (wal === undefined || reply === undefined) return 0;
      return Number(wal.endLsn - reply.flushLsn);
    }

    /** Of each question on the newest stream that was answered: how long it took. */
    function answerTimes(): number[] {
      const stream = streamsOf(rig.recorder.ledger).at(-1);
      return (stream?.keepalives ?? [])
        .filter(({ replyRequested }) => replyRequested)
        .flatMap(({ seq, atMs }) => {
          const reply = stream?.replies.find((one) => one.seq > seq);
          return reply === undefined ? [] : [reply.atMs - atMs];
        });
    }
  },
);
