// What does one stage of a Dockerfile leave? Its instructions one after the other: some change files, the others what is known of
// how a container starts.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { posix } from 'node:path';
import type { ImageBase } from './image-base.ts';
import type { BuildContext } from './image-context.ts';
import { argOf, commandOf, expand, pairsOf, problem, wordsAndFlags } from './image-file.ts';
import type { Instruction, Stage } from './image-file.ts';
import { contentKey, keyOf } from './image-layers.ts';
import type { LayerStore } from './image-layers.ts';

/** What all stages of one build share. */
export interface Build {
  readonly context: BuildContext;
  readonly store: LayerStore;
  readonly base: ImageBase;
  /** The ARGs before the first FROM, and those given from outside. */
  readonly globalArgs: Readonly<Record<string, string>>;
  readonly givenArgs: Readonly<Record<string, string>>;
  readonly done: ReadonlyMap<string, StageState>;
}

/** A stage so far. */
export interface StageState {
  /** The oldest first. */
  layers: string[];
  /** Changes with everything that its files depend on. */
  key: string;
  args: Record<string, string>;
  env: Record<string, string>;
  labels: Record<string, string>;
  ports: number[];
  user: string;
  workdir: string;
  entrypoint: readonly string[];
  cmd: readonly string[];
  stopSignal: string;
}

const COPY_CONTEXT = `
payload="$1"; dest="/mnt/root$2"; owner="$3"
[ -z "$owner" ] || chown -R -h "$owner" "$payload"
[ -d "$dest" ] || { mkdir -p "$dest"; [ -z "$owner" ] || chown "$owner" "$dest"; }
find "$payload" -mindepth 1 -maxdepth 1 -exec cp -a -t "$dest" {} +`;

const COPY_STAGE = `
lowers="$4"; source="$5"; name="$6"
mount -t overlay -o "lowerdir=$lowers,redirect_dir=off,metacopy=off,index=off" from /mnt/from
mkdir /mnt/payload
if [ -d "/mnt/from$source" ]; then cp -a "/mnt/from$source/." /mnt/payload/
else cp -a "/mnt/from$source" "/mnt/payload/$name"; fi
set -- /mnt/payload "$2" "$3"
${COPY_CONTEXT}`;

const RUN = `
user="$1"; cache="$2"; directory="$3"
shift 3
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount -t tmpfs -o mode=1777 tmpfs /mnt/root/tmp
mkdir /mnt/root/tmp/npm-cache
mount --bind "$cache" /mnt/root/tmp/npm-cache
exec chroot --userspec="$user" --groups= /mnt/root /usr/bin/env -i -C "$directory" "$@"`;

const WORKDIR = 'mkdir -p "/mnt/root$1"';

/** Where a stage begins. */
export function stageStart(stage: Stage, build: Build): StageState {
  const parent = build.done.get(stage.from);
  if (parent !== undefined) return { ...structuredClone(parent), args: {} };
  const image = /^node:([\d.]+)-bookworm-slim@sha256:[0-9a-f]{64}$/.exec(stage.from);
  if (image === null) throw new Error(`FROM ${stage.from}: nothing here stands in for that image`);
  return {
    layers: [],
    key: keyOf([build.base.key]),
    args: {},
    env: { ...build.base.env },
    labels: {},
    ports: [],
    user: '0:0',
    workdir: '/',
    entrypoint: ['docker-entrypoint.sh'],
    cmd: ['node'],
    stopSignal: 'SIGTERM',
  };
}

/** Executes one instruction. Throws for one that it does not know. */
export async function execute(
  instruction: Instruction,
  state: StageState,
  build: Build,
): Promise<void> {
  const scope = { ...state.args, ...state.env };
  switch (instruction.keyword) {
    case 'ARG': {
      const { givenArgs: given, globalArgs: outer } = build;
      return void Object.assign(state.args, argOf(instruction, { scope, given, outer }));
    }
    case 'ENV':
      return void Object.assign(state.env, pairsOf(instruction, scope));
    case 'LABEL':
      return void Object.assign(state.labels, pairsOf(instruction, scope));
    case 'USER':
      state.user = expand(instruction, scope);
      return;
    case 'STOPSIGNAL':
      state.stopSignal = expand(instruction, scope);
      return;
    case 'EXPOSE':
      state.ports.push(...expand(instruction, scope).split(/\s+/).map(Number));
      return;
    case 'ENTRYPOINT':
    case 'CMD':
      return setCommand(instruction, state);
    case 'WORKDIR':
      state.workdir = posix.resolve(state.workdir, expand(instruction, scope));
      return await add(state, build, { script: WORKDIR, args: [state.workdir] });
    case 'COPY':
      return await copy(instruction, state, build);
    case 'RUN':
      return await run(instruction, state, build);
    default:
      throw problem(instruction, 'this instruction is not known here');
  }
}

/** As `lowerdir` of an overlay wants them: the topmost first. */
export function lowersOf(state: StageState, base: ImageBase): string[] {
  return [...state.layers.toReversed(), base.files];
}

function setCommand(instruction: Instruction, state: StageState): void {
  const command = commandOf(instruction);
  const words = command.form === 'exec' ? command.words : ['/bin/sh', '-c', command.text];
  if (instruction.keyword === 'CMD') state.cmd = words;
  // An entry point of its own goes with no CMD of the base.
  else [state.entrypoint, state.cmd] = [words, []];
}

async function add(
  state: StageState,
  build: Build,
  step: { readonly script: string; readonly args: readonly string[] },
  ingredients: readonly string[] = step.args,
): Promise<void> {
  const below = { lowers: lowersOf(state, build.base), machine: build.base.machine };
  const key = keyOf([state.key, step.script, ...ingredients]);
  state.layers.push(await build.store.layer(key, below, step));
  state.key = key;
}

async function copy(instruction: Instruction, state: StageState, build: Build): Promise<void> {
  const { flags, words } = wordsAndFlags(instruction, { ...state.args, ...state.env });
  const { from, chown, ...unknown } = flags;
  const [strange] = Object.keys(unknown);
  if (strange !== undefined) throw problem(instruction, `--${strange} is not known here`);
  const [to, ...sources] = words.toReversed();
  if (to === undefined || sources.length === 0 || words.some((word) => /[*?[\]"]/.test(word)))
    throw problem(instruction, 'sources and a target without wildcards are expected');
  if (sources.length > 1 && !to.endsWith('/')) throw problem(instruction, 'the target needs a /');
  const owner = chown === undefined ? null : identityOf(chown, state, build).ids;
  for (const source of sources.toReversed()) {
    if (from === undefined) await copyContext({ source, to, owner }, state, build);
    else await copyStage({ source, to, owner, from }, state, build);
  }
}

interface Copy {
  readonly source: string;
  readonly to: string;
  /** Numbers, null where none were named. */
  readonly owner: string | null;
}

async function copyContext(what: Copy, state: StageState, build: Build): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-payload-'));
  try {
    const name = basename(what.to.endsWith('/') ? what.source : what.to);
    const kind = await build.context.copy(what.source, join(directory, 'seen'));
    const payload = join(directory, kind === 'file' ? 'payload' : 'seen');
    if (kind === 'file') {
      mkdirSync(payload);
      execFileSync('mv', [join(directory, 'seen'), join(payload, name)]);
    }
    const target = targetOf(what, kind === 'directory', state);
    const args = [target, what.owner ?? '0:0'];
    const step = { script: COPY_CONTEXT, args: [payload, ...args] };
    await add(state, build, step, [contentKey(payload), ...args]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function copyStage(
  what: Copy & { readonly from: string },
  state: StageState,
  build: Build,
): Promise<void> {
  const other = build.done.get(what.from);
  if (other === undefined) throw new Error(`COPY --from=${what.from}: no stage has that name`);
  const name = basename(what.to.endsWith('/') ? what.source : what.to);
  const lowers = lowersOf(other, build.base).join(':');
  const place = [targetOf(what, what.source.endsWith('/'), state), what.owner ?? ''];
  const args = ['', ...place, lowers, what.source, name];
  const step = { script: COPY_STAGE, args };
  await add(state, build, step, [other.key, ...place, what.source, name]);
}

/** The directory that it goes to. */
function targetOf(what: Copy, isDirectory: boolean, state: StageState): string {
  const to = posix.resolve(state.workdir, what.to);
  return isDirectory || what.to.endsWith('/') || /^\.\/?$/.test(what.to) ? to : dirname(to);
}

async function run(instruction: Instruction, state: StageState, build: Build): Promise<void> {
  const command = commandOf(instruction);
  const words = command.form === 'exec' ? command.words : ['/bin/sh', '-c', command.text];
  const { ids, home } = identityOf(state.user, state, build);
  const variables = { HOME: home, ...state.args, ...state.env };
  const pairs = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  const cache = join(build.store.directory, `npm-cache-${ids.replace(':', '-')}`);
  if (!existsSync(cache)) {
    mkdirSync(cache, { recursive: true });
    execFileSync('chown', [ids, cache]);
  }
  const args = [ids, cache, state.workdir, ...pairs, ...surroundings(), ...words];
  await add(state, build, { script: RUN, args }, [ids, state.workdir, ...pairs, ...words]);
}

/** What a build gets from where it runs: ways out, and whom it trusts there. */
function surroundings(): string[] {
  const pairs = Object.entries(process.env).filter(
    ([name]) => /_proxy$/i.test(name) || /^(NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)$/.test(name),
  );
  const registry = npmSetting('registry');
  const settings = [
    ['npm_config_cache', '/tmp/npm-cache'],
    ['npm_config_prefer_offline', 'true'],
    ['npm_config_update_notifier', 'false'],
    ...(registry === null ? [] : [['npm_config_registry', registry]]),
  ];
  return [...pairs, ...settings].map(([name, value]) => `${name}=${value}`);
}

function npmSetting(name: string): string | null {
  const text = execFileSync('npm', ['config', 'get', name], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
  return text === '' || text === 'null' || text === 'undefined' ? null : text;
}

/** Numbers and home directory behind `name[:group]`, by the user database of the stage. */
function identityOf(
  who: string,
  state: StageState,
  build: Build,
): { readonly ids: string; readonly home: string } {
  const [user = '', group] = who.split(':');
  const users = database('passwd', state, build);
  const entry = users.find((fields) => fields[0] === user || fields[2] === user);
  const uid = /^\d+$/.test(user) ? user : entry?.[2];
  const groups = database('group', state, build);
  const named = groups.find((fields) => fields[0] === group)?.[2];
  const gid = group === undefined ? (entry?.[3] ?? '0') : /^\d+$/.test(group) ? group : named;
  if (uid === undefined || gid === undefined) throw new Error(`${who}: no such user or group`);
  return { ids: `${uid}:${gid}`, home: entry?.[5] ?? '/' };
}

function database(name: 'passwd' | 'group', state: StageState, build: Build): string[][] {
  const files = lowersOf(state, build.base).map((lower) => join(lower, 'etc', name));
  const file = files.find((path) => existsSync(path));
  if (file === undefined) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.map((line) => line.split(':'));
}
