// Does docs/quick-start.md lead to a standby behind walcast? Every line of it is typed, in order, by an ordinary user.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { freePort } from '../harness/free-port.ts';
import { clientMajor, findProgram, requires } from '../support/requirements.ts';
import { Terminal } from '../support/terminal.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NEEDS = ['python3', 'bash', 'curl', 'initdb', 'pg_ctl', 'psql', 'pg_basebackup'];

interface Block {
  readonly kind: string;
  readonly text: string;
}

/** The fenced blocks of the page, in order. */
function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, kind = '', text = '']) => ({
    kind,
    text,
  }));
}

/** Questions of a conversation with what is typed behind each. */
function answersOf(conversation: string): [question: string, answer: string][] {
  const [, ...lines] = conversation.trimEnd().split('\n');
  return lines.map((line) => {
    const [, question = '', answer = ''] =
      /^(.*?(?:\]|none\)|replicator\)): ?)(.*)$/.exec(line) ?? [];
    return [`${question.trimEnd()} `, answer];
  });
}

requires(...NEEDS).it(
  'the page can be typed as it stands, from an empty folder to a standby and back',
  { timeout: 180_000 },
  async () => {
    const workspace = await openWorkspace(await serverUser());
    onTestFinished(() => workspace.close());
    const { user } = workspace;
    const home = await workspace.makeDirectory('home');
    // The page has ports that are free on a laptop.
    const ports = new Map<string, number>();
    for (const port of ['5440', '5441', '5433', '9188']) ports.set(port, await freePort());
    const programs = join(findProgram('initdb') ?? '', '..');
    const here = (text: string): string =>
      text
        .replaceAll(/\b(5440|5441|5433|9188)\b/g, (port) => String(ports.get(port)))
        .replaceAll(`/usr/lib/postgresql/15/bin`, programs)
        .replaceAll('~/walcast/', ROOT);
    const page = readFileSync(join(ROOT, 'docs/quick-start.md'), 'utf8');
    const [demo, settings, primary, conversation, ...rest] = blocksOf(page);
    expect(demo).toEqual({ kind: '', text: 'npm run demo\n' });
    expect([settings?.kind, primary?.kind, conversation?.kind]).toEqual(['sh', 'sh', 'terminal']);
    expect(rest.map(({ kind }) => kind)).toEqual(['sh', 'sh', 'sh', 'sh']);
    // As in a shell that a person types at.
    const begin = `shopt -s expand_aliases\n${here(settings?.text ?? '')}`;
    const type = async (...blocks: string[]): Promise<string> => {
      const script = ['set -e', begin, ...blocks.map(here)].join('\n');
      const done = await runCommand('bash', ['-c', script], { user, cwd: home });
      expect([done.exitCode, done.stdout, done.stderr]).toEqual([0, done.stdout, '']);
      return done.stdout;
    };

    expect(await type(primary?.text ?? '')).toContain('CREATE ROLE');

    const [command = ''] = (conversation?.text ?? '').split('\n');
    const folder = join(home, 'walcast-try');
    // Which port is free on this machine is not the page's matter.
    const http = `--http 127.0.0.1:${ports.get('9188')}`;
    const line = `${begin}\n${command.replace(/^.*\$ /, '')} ${http}`;
    const terminal = new Terminal('bash', ['-c', line], { cwd: folder, env: { HOME: home }, user });
    onTestFinished(() => terminal.close());
    for (const [question, answer] of answersOf(conversation?.text ?? '')) {
      const isListen = question.includes('[127.0.0.1:5433]');
      await terminal.answer(question, isListen ? `127.0.0.1:${ports.get('5433')}` : here(answer));
    }
    expect([await terminal.end, terminal.shown]).toEqual([0, expect.stringContaining('0 errors')]);
    // Each line that the page has for a standby is one that was printed.
    const printed = terminal.shown.split('\n').map((each) => each.trim());
    const seeding =
      rest[1]?.text.split('\n').find((each) => each.startsWith('pg_basebackup')) ?? '';
    expect(printed).toContain(here(seeding).replace('-D standby_a', '-D DATA_DIRECTORY'));

    const steps = rest.map(({ text }) =>
      text.replaceAll(/^walcast (status|health|drain)\b/gm, '$& --url http://127.0.0.1:9188'),
    );
    const shown = await type('cd ~/walcast-try', ...steps);
    expect(shown).toContain('from the primary');
    expect(shown).toMatch(/\| standby_a +\|.*\| streaming \|/);
    expect(shown).toMatch(/^WALCAST OK - /m);
  },
);

requires(...NEEDS).it('the programs of the page are of one major', () => {
  expect(clientMajor('initdb')).toBe(clientMajor('pg_basebackup'));
});
