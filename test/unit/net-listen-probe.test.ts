// Does a trial of an address say what listening there would say, and leave everything as it is?
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { probeListen } from '../../src/net/listen-probe.ts';
import { Listener } from '../../src/net/listener.ts';

function directoryFor(): string {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-probe-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The codes of a trial and of really listening; null when there is no objection. */
async function codes(directory: string): Promise<(string | null)[]> {
  const target = { kind: 'unix', directory, port: 5432 } as const;
  const [tried] = await probeListen([target]);
  try {
    const listener = await Listener.open({ target, connectionsMax: 1, onConnection() {} });
    listener.close();
    return [tried?.code ?? null, null];
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    return [tried?.code ?? null, error.code];
  }
}

test('a path without a file is free', async () => {
  expect(await codes(directoryFor())).toEqual([null, null]);
});

test('a socket that nobody listens on is free, and stays', async () => {
  const directory = directoryFor();
  const path = join(directory, '.s.PGSQL.5432');
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(join(directory, 'other'), resolve);
  });
  // The file outlives its socket under another name.
  renameSync(join(directory, 'other'), path);
  await new Promise((resolve) => server.close(resolve));
  expect(await probeListen([{ kind: 'unix', directory, port: 5432 }])).toEqual([null]);
  expect(existsSync(path)).toBe(true);
  expect(await codes(directory)).toEqual([null, null]);
});

test('a file that is no socket counts as left over, as for the server', async () => {
  const directory = directoryFor();
  writeFileSync(join(directory, '.s.PGSQL.5432'), '');
  expect(await codes(directory)).toEqual([null, null]);
});

test('a path that is too long is refused', async () => {
  const directory = join(directoryFor(), 'x'.repeat(100));
  mkdirSync(directory);
  expect(await codes(directory)).toEqual(['ENAMETOOLONG', 'ENAMETOOLONG']);
});
