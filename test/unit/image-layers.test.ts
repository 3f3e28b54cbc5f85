// Are layers of a build made once, whoever asks at the same time, and do old ones go?
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { LayerStore, layersProblem } from '../harness/image-layers.ts';
import { needs } from '../support/requirements.ts';

// Not in the directory for temporary files: that may be an overlay itself, which no layer can be put on.
const PARENT = fileURLToPath(new URL('../../.walcast-test', import.meta.url));
mkdirSync(PARENT, { recursive: true });
const directory = mkdtempSync(join(PARENT, 'layers-'));
const problem = await layersProblem(directory);

afterAll(() => {
  rmSync(directory, { recursive: true });
});

function place(name: string): string {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
}

describe('a layer', () => {
  const below = (): { lowers: string[]; machine: string[] } => ({
    lowers: [mkdtempSync(join(directory, 'base-'))],
    machine: [],
  });

  it('is made once by those who ask for it at the same time', async (context) => {
    needs(context, problem);
    const path = place('once');
    const [made, base] = [join(directory, 'made'), below()];
    // The second one asks before the first one is done: it says so, and waits for that.
    const script = 'echo made >>"$1"; sleep 0.3; echo x >/mnt/root/file';
    const ask = async (): Promise<string> =>
      await new LayerStore(path).layer('a', base, { script, args: [made] });
    const layers = await Promise.all([ask(), ask(), ask()]);
    expect(new Set(layers).size).toBe(1);
    expect(readFileSync(made, 'utf8')).toBe('made\n');
    expect(readFileSync(join(layers[0] ?? '', 'file'), 'utf8')).toBe('x\n');
    expect(readdirSync(path).toSorted()).toEqual(['layer-a', 'lock-a']);
  });

  it('that fails says why to each, leaves nothing that is taken for it, and is made the next time', async (context) => {
    needs(context, problem);
    const path = place('fails');
    const [flag, base] = [join(directory, 'flag'), below()];
    const script = '[ -e "$1" ] || { echo "no flag" >&2; exit 3; }; : >/mnt/root/file';
    const ask = async (): Promise<string> =>
      await new LayerStore(path).layer('a', base, { script, args: [flag] });
    const results = await Promise.allSettled([ask(), ask()]);
    for (const result of results) expect(result).toMatchObject({ reason: { message: 'no flag' } });
    expect(existsSync(join(path, 'layer-a'))).toBe(false);
    mkdirSync(flag);
    expect(existsSync(join(await ask(), 'file'))).toBe(true);
  });
});

describe('what is kept', () => {
  /** `age` in seconds. */
  function make(path: string, name: string, age: number): void {
    mkdirSync(join(path, name, 'files'), { recursive: true });
    const time = Date.now() / 1000 - age;
    utimesSync(join(path, name), time, time);
  }

  it('is bounded, however much was built of late; what was used last stays', () => {
    const path = place('bounded');
    for (let age = 0; age < 70; age += 1) make(path, `layer-${age}`, age);
    for (let age = 0; age < 20; age += 1) make(path, `tree-${age}`, age);
    const store = new LayerStore(path);
    const names = readdirSync(store.directory);
    const layers = names.filter((name) => name.startsWith('layer-'));
    expect(layers).toHaveLength(48);
    expect(layers).toContain('layer-0');
    expect(layers).not.toContain('layer-69');
    const trees = names.filter((name) => name.startsWith('tree-'));
    expect(trees).toHaveLength(6);
    expect(trees).toContain('tree-0');
    expect(names).toHaveLength(54);
  });

  it('is not what is old, or what a build that was killed left', () => {
    const path = place('old');
    const old = ['layer-a', 'tree-a', 'lock-a', 'layer-b.new', 'base-3.12.new', 'gone-1-layer-c'];
    for (const name of old) make(path, name, 3 * 3600);
    const stay = ['layer-c', 'layer-d.new', 'base-3', 'npm-cache-0-0'];
    for (const name of stay) make(path, name, 60);
    const store = new LayerStore(path);
    expect(readdirSync(store.directory).toSorted()).toEqual(stay.toSorted());
  });
});
