// The networks of the tests themselves: does a cut cable stay silent, and does nothing stay behind of a test that was killed?
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { namespaceProblem, openNamespaces, removeStaleNamespaces } from '../harness/namespaces.ts';
import { needs } from '../support/requirements.ts';

const PROBLEM = namespaceProblem();

function namespaces(): string[] {
  const text = execFileSync('/usr/sbin/ip', ['netns', 'list'], { encoding: 'utf8' });
  return text.split('\n').map((line) => line.split(' ')[0] ?? '');
}

describe('networks of their own', () => {
  it('of a process that is gone are removed, those of others are not', async (context) => {
    needs(context, PROBLEM);
    // A number that was given once and is free again.
    const gone = spawnSync('true').pid;
    const left = `walcast-${gone}-1-left`;
    const ours = `walcast-${process.pid}-0-ours`;
    for (const name of [left, ours]) execFileSync('/usr/sbin/ip', ['netns', 'add', name]);
    try {
      await removeStaleNamespaces();
      expect(namespaces()).not.toContain(left);
      expect(namespaces()).toContain(ours);
    } finally {
      execFileSync('/usr/sbin/ip', ['netns', 'del', ours]);
    }
  });

  it('join two nodes by a cable that can be cut in each direction, and leave nothing behind', async (context) => {
    needs(context, PROBLEM);
    await using workspace = await openWorkspace(null);
    const network = await openNamespaces(workspace);
    const [first, second] = [
      await network.place('a', 'server'),
      await network.place('b', 'server'),
    ];
    const link = await network.link({ name: 'a', port: () => 1 }, 'b');
    // Refused by a kernel that hears us: nobody listens. Silence is no answer within the time.
    const answers = (withinMs: number): boolean => {
      const [program = '', ...args] = second.wrapper ?? [];
      const script = `require('net').connect({ host: '${link.host}', port: 1 }).on('error', (e) => process.exit(e.code === 'ECONNREFUSED' ? 0 : 1)); setTimeout(() => process.exit(2), ${withinMs})`;
      return spawnSync(program, [...args, process.execPath, '-e', script]).status === 0;
    };
    expect(first.wrapper).not.toEqual(second.wrapper);
    expect(answers(20_000)).toBe(true);
    for (const direction of ['fromServer', 'fromClient'] as const) {
      await link.cutOneWay(direction);
      expect(answers(700)).toBe(false);
      await link.heal();
      expect(answers(20_000)).toBe(true);
    }
    await network[Symbol.asyncDispose]();
    expect(namespaces().filter((name) => name.startsWith(`walcast-${process.pid}-`))).toEqual([]);
  });
});
