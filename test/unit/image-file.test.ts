// The rules of the Dockerfile, and that the reader of it leaves no line out.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { BuildContext, openContext } from '../harness/image-context.ts';
import { argOf, commandOf, pairsOf, parseImageFile, wordsAndFlags } from '../harness/image-file.ts';
import type { Instruction } from '../harness/image-file.ts';
import { LayerStore } from '../harness/image-layers.ts';
import { execute, stageStart } from '../harness/image-stage.ts';
import type { Build } from '../harness/image-stage.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TEXT = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const FILE = parseImageFile(TEXT);
const FINAL = FILE.stages.at(-1);

function all(keyword: string, from: readonly Instruction[] = every()): Instruction[] {
  return from.filter((instruction) => instruction.keyword === keyword);
}

function every(): Instruction[] {
  return FILE.stages.flatMap(({ instructions }) => instructions);
}

function ofFinal(keyword: string): string[] {
  return all(keyword, FINAL?.instructions ?? []).map(({ text }) => text);
}

describe('the Dockerfile', () => {
  it('names one base, by tag and digest, for all stages', () => {
    const bases = new Set(FILE.stages.map(({ from }) => from));
    expect(bases.size).toBe(1);
    expect([...bases][0]).toMatch(/^node:\d+\.\d+\.\d+-bookworm-slim@sha256:[0-9a-f]{64}$/);
  });

  it('takes another digest from outside, and for all stages', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const { stages } = parseImageFile(TEXT, { NODE_DIGEST: digest });
    for (const { from } of stages) expect(from).toMatch(new RegExp(`@${digest}$`));
  });

  it('runs as a user that a cluster can see is not root, in every stage that runs code of others', () => {
    expect(ofFinal('USER')).toEqual(['10001:10001']);
    const build = FILE.stages[0]?.instructions ?? [];
    const user = build.findIndex(({ keyword }) => keyword === 'USER');
    const install = build.findIndex(({ text }) => text.includes('npm ci'));
    expect(user).toBeGreaterThanOrEqual(0);
    expect(install).toBeGreaterThan(user);
    expect(build[user]?.text).not.toMatch(/^(root|0)\b/);
    // Nothing follows that would need another one.
    const last = FINAL?.instructions ?? [];
    const own = last.findIndex(({ keyword }) => keyword === 'USER');
    expect(last.slice(own).filter(({ keyword }) => /^(RUN|COPY|USER)$/.test(keyword))).toHaveLength(
      1,
    );
  });

  it('starts the program itself, without a shell, and ends it with SIGTERM', () => {
    for (const keyword of ['ENTRYPOINT', 'CMD']) {
      const [instruction, ...others] = all(keyword);
      expect(others).toEqual([]);
      expect(instruction && commandOf(instruction)).toMatchObject({ form: 'exec' });
    }
    expect(ofFinal('STOPSIGNAL')).toEqual(['SIGTERM']);
    expect(ofFinal('EXPOSE')).toEqual(['5432 9188']);
  });

  it('leaves out what a cluster does better, and what cannot be repeated', () => {
    for (const keyword of ['HEALTHCHECK', 'VOLUME', 'ADD', 'ONBUILD', 'SHELL', 'MAINTAINER'])
      expect(all(keyword)).toEqual([]);
    for (const { text } of all('RUN'))
      expect(text).not.toMatch(/apt-get|curl|wget|sudo|npm install\b/);
  });

  it('carries no secret: no argument or variable has the name of one', () => {
    const names = [...all('ARG'), ...all('ENV'), ...all('LABEL')].map(({ text }) => text);
    for (const text of [...names, ...Object.keys(FILE.args)])
      expect(text).not.toMatch(/password|passwd|secret|token|credential|api_?key/i);
  });

  it('labels the image with its version, its revision and its base', () => {
    const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const scope: Record<string, string> = {};
    for (const instruction of all('ARG', FINAL?.instructions ?? [])) {
      const given = { REVISION: 'abc1234' };
      Object.assign(scope, argOf(instruction, { scope, given, outer: FILE.args }));
    }
    const [instruction] = all('LABEL', FINAL?.instructions ?? []);
    const labels = instruction === undefined ? {} : pairsOf(instruction, scope);
    expect(labels).toMatchObject({
      'org.opencontainers.image.title': 'walcast',
      'org.opencontainers.image.version': Reflect.get(Object(manifest), 'version'),
      'org.opencontainers.image.revision': 'abc1234',
      'org.opencontainers.image.base.digest': FILE.args['NODE_DIGEST'],
    });
    expect(labels['org.opencontainers.image.base.name']).toMatch(/^docker\.io\/library\/node:24\./);
  });

  it('copies into the final stage what was built, as root, and nothing of the clone', () => {
    const copies = all('COPY', FINAL?.instructions ?? []).map((one) => wordsAndFlags(one, {}));
    expect(copies).toEqual([
      { flags: { from: 'build', chown: '0:0' }, words: ['/image/', '/opt/walcast/'] },
    ]);
  });
});

describe('.dockerignore', () => {
  it('lets the build see what it copies', async () => {
    const context = await openContext(ROOT);
    const build = FILE.stages[0]?.instructions ?? [];
    const sources = all('COPY', build).flatMap((one) => wordsAndFlags(one, {}).words.slice(0, -1));
    expect(sources.length).toBeGreaterThan(5);
    for (const source of sources)
      expect([source, context.sees(source.replace(/\/$/, ''))]).toEqual([source, true]);
  });

  it.each([
    '.git/config',
    '.env',
    'node_modules/undici/index.js',
    'dist/program/main.js',
    'test/unit/x.test.ts',
    'walcast.yaml',
    'userlist.txt',
    'deploy/compose/.env',
    'src/server.key',
    'src/relay/.env.local',
    'scripts/ca.pem',
    'page/debug.log',
    '.walcast-test/image/x',
  ])('hides %s', async (path) => {
    expect((await openContext(ROOT)).sees(path)).toBe(false);
  });

  it('lets the last pattern decide, and a folder stand for all in it', () => {
    const context = new BuildContext('/', 'a\n!a/b\na/b/*.txt\n**/secret?\n');
    expect(context.sees('a')).toBe(false);
    expect(context.sees('a/c')).toBe(false);
    expect(context.sees('a/b/c')).toBe(true);
    expect(context.sees('a/b/c.txt')).toBe(false);
    expect(context.sees('x/y/secret1')).toBe(false);
    expect(context.sees('secret1/z')).toBe(false);
    expect(context.sees('secret')).toBe(true);
  });

  it('copies nothing that it hides, and refuses to copy what it hides by name', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'walcast-context-'));
    try {
      mkdirSync(join(directory, 'src'));
      writeFileSync(join(directory, '.dockerignore'), '*\n!src\n**/*.key\n');
      writeFileSync(join(directory, 'src/a.key'), 'secret');
      writeFileSync(join(directory, 'src/a.ts'), 'x');
      writeFileSync(join(directory, 'b.ts'), 'x');
      const context = await openContext(directory);
      expect(await context.copy('src', join(directory, 'out'))).toBe('directory');
      expect(() => readFileSync(join(directory, 'out/a.key'))).toThrow('ENOENT');
      expect(readFileSync(join(directory, 'out/a.ts'), 'utf8')).toBe('x');
      await expect(context.copy('b.ts', join(directory, 'b'))).rejects.toThrow('hides it');
      await expect(context.copy('../x', join(directory, 'b'))).rejects.toThrow('outside');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('the build', () => {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-layers-'));
  const build: Build = {
    context: new BuildContext(directory, ''),
    store: new LayerStore(directory),
    base: { files: directory, machine: [], env: {}, key: 'base' },
    globalArgs: {},
    givenArgs: {},
    done: new Map(),
  };

  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  it.each(['ADD a b', 'SHELL ["x"]', 'COPY --link a b', 'COPY a* b/', 'COPY a b c', 'USER'])(
    'refuses %s: nothing of the file is left out of what is executed',
    async (line) => {
      await expect(async () => {
        const image = `node:24.1.0-bookworm-slim@sha256:${'0'.repeat(64)}`;
        const [stage] = parseImageFile(`FROM ${image}\n${line}\n`).stages;
        if (stage === undefined) return;
        const state = stageStart(stage, build);
        for (const instruction of stage.instructions) await execute(instruction, state, build);
      }).rejects.toThrow();
    },
  );

  it('refuses a base that nothing stands in for', () => {
    const [stage] = parseImageFile('FROM alpine:3\n').stages;
    expect(() => stage && stageStart(stage, build)).toThrow('alpine:3');
  });
});

describe('the reader of Dockerfiles', () => {
  it('joins lines that go on, with comments between them', () => {
    const { stages } = parseImageFile(
      'FROM a AS b\n\n# c\nRUN x \\\n  # not this\n  && y\nUSER 1\n',
    );
    expect(stages).toEqual([
      {
        from: 'a',
        name: 'b',
        instructions: [
          { keyword: 'RUN', text: 'x && y', line: 4 },
          { keyword: 'USER', text: '1', line: 7 },
        ],
      },
    ]);
  });

  it.each([
    ['nothing', ''],
    ['a RUN before the first FROM', 'RUN x\nFROM a'],
    ['a FROM of three words', 'FROM a b c'],
    ['a line that is no instruction', 'FROM a\n=x'],
    ['an instruction that does not end', 'FROM a\nRUN x \\'],
    ['another escape character', '# escape=`\nFROM a'],
    ['an operator on a variable', 'ARG A=1\nFROM ${A:-x}'],
  ])('refuses %s', (_, text) => {
    expect(() => parseImageFile(text)).toThrow();
  });

  it('refuses a here-document and a value with spaces that is not quoted', () => {
    const [run, env] = parseImageFile('FROM a\nRUN <<EOF\nENV A=b c').stages[0]?.instructions ?? [];
    expect(() => run && commandOf(run)).toThrow('here-documents');
    expect(() => env && pairsOf(env, {})).toThrow('name=value');
  });

  it('fills variables in, from outside first', () => {
    const text = 'ARG V=1\nARG W=$V.0\nFROM x:${W}';
    expect(parseImageFile(text).stages[0]?.from).toBe('x:1.0');
    expect(parseImageFile(text, { V: '2' }).stages[0]?.from).toBe('x:2.0');
  });
});
