// What is in the image, and how does it start? Executes the instructions of the Dockerfile where no container engine runs.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { imageBase } from './image-base.ts';
import { openContext } from './image-context.ts';
import { parseImageFile } from './image-file.ts';
import { LayerStore, layersProblem, touch } from './image-layers.ts';
import { execute, lowersOf, stageStart } from './image-stage.ts';
import type { Build, StageState } from './image-stage.ts';

/** Where layers stay from build to build; not part of the repository. */
const STORE = fileURLToPath(new URL('../../.walcast-test/image', import.meta.url));

/** How a container of the image starts, as `docker inspect` would say it. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** As the file has it: `10001:10001`. */
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As the file exposes them, without a protocol. */
  readonly ports: readonly number[];
}

/** An image that was built. */
export interface ImageTree {
  /** The files that the final stage adds to its base, as a tree from `/`, with their owners and modes. Read it only. */
  readonly root: string;
  /** Absolute paths of the base that the final stage takes away. */
  readonly removed: readonly string[];
  /** The root file system of a container, as `lowerdir` of an overlay mount wants it: the topmost first, the base last. */
  readonly lowers: readonly string[];
  /** Directories of this machine to be bound over that, read-only and at the same path: they stand in for Debian's programs. */
  readonly machine: readonly string[];
  readonly config: ImageConfig;
}

/** Why no image can be built on this machine; null when it can. */
export async function imageProblem(): Promise<string | null> {
  return await layersProblem(STORE);
}

/**
 * Builds the image of the Dockerfile in `directory`, in clean folders. `args` are what a build is given (`--build-arg`). What did
 * not change since another build is taken from there, as a container engine does. Needs root (mounts). Throws for an instruction
 * that it does not know, and with the output of a RUN that fails.
 */
export async function imageTree(
  directory: string,
  { args = {}, store = STORE }: { args?: Readonly<Record<string, string>>; store?: string } = {},
): Promise<ImageTree> {
  const file = parseImageFile(readFileSync(join(directory, 'Dockerfile'), 'utf8'), args);
  const done = new Map<string, StageState>();
  const build: Build = {
    context: await openContext(directory),
    store: new LayerStore(store),
    base: imageBase(store),
    globalArgs: file.args,
    givenArgs: args,
    done,
  };
  let last: StageState | null = null;
  for (const [index, stage] of file.stages.entries()) {
    last = stageStart(stage, build);
    for (const instruction of stage.instructions) await execute(instruction, last, build);
    done.set(stage.name ?? String(index), last);
  }
  if (last === null) throw new Error('there is no stage');
  const tree = addedFiles(build.store, last);
  const lowers = lowersOf(last, build.base);
  return { ...tree, lowers, machine: build.base.machine, config: configOf(last) };
}

function configOf(state: StageState): ImageConfig {
  const { entrypoint, cmd, user, env, workdir, stopSignal, labels, ports } = state;
  return { entrypoint, cmd, user, env, workdir, stopSignal, labels, ports };
}

/** All layers of a stage as one tree, and what they take away from the base. */
function addedFiles(store: LayerStore, state: StageState): { root: string; removed: string[] } {
  const place = join(store.directory, `tree-${state.key}`);
  const root = join(place, 'root');
  const note = join(place, 'removed.json');
  if (!existsSync(place)) {
    const fresh = `${place}.${process.pid}.new`;
    mkdirSync(join(fresh, 'root'), { recursive: true });
    const removed = state.layers.flatMap((layer) => merge(layer, join(fresh, 'root')));
    writeFileSync(join(fresh, 'removed.json'), JSON.stringify(removed));
    try {
      renameSync(fresh, place);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      if (!existsSync(place)) throw error;
    }
  }
  touch(place);
  const removed: unknown = JSON.parse(readFileSync(note, 'utf8'));
  return { root, removed: Array.isArray(removed) ? removed.map(String) : [] };
}

/** Puts a layer over the tree. What an overlay marks as gone goes from the tree, and is told. */
function merge(layer: string, root: string): string[] {
  execFileSync('cp', ['-a', `${layer}/.`, `${root}/`]);
  const removed: string[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (entry.isCharacterDevice() && lstatSync(path).rdev === 0) {
        rmSync(path);
        removed.push(`/${relative(root, path)}`);
      }
    }
  };
  visit(root);
  return removed;
}
