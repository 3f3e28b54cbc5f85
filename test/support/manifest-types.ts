// Is a manifest what its API takes? The compiler puts every field to the published types, so that one that does not exist is found,
// and the schemas beside them judge what types cannot: patterns, bounds, formats.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { KubernetesObject } from './manifests.ts';

/** Packages of types for the groups of custom resources; groups without a dot, and those of k8s.io, are Kubernetes' own. */
const CUSTOM_GROUPS: ReadonlyMap<string, string> = new Map([
  ['monitoring.coreos.com', '@kubernetes-models/prometheus-operator'],
  ['postgresql.cnpg.io', '@kubernetes-models/cloudnative-pg'],
]);

const ROOT = join(import.meta.dirname, '../..');

const COMPILER_OPTIONS = {
  target: 'es2023',
  module: 'nodenext',
  types: [],
  noEmit: true,
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
};

/**
 * What the compiler says against the objects: a line a problem, with the name of the object; empty for good ones. An object for which no types
 * are there is a problem, too.
 */
export function typeProblems(objects: readonly KubernetesObject[]): readonly string[] {
  const known = objects.filter((object) => typesModule(object) !== null);
  const unknown = objects.filter((object) => typesModule(object) === null);
  // Inside the project: the types are found from where the file is.
  mkdirSync(join(ROOT, '.walcast-test'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.walcast-test/manifest-types-'));
  try {
    writeFileSync(join(folder, 'objects.ts'), known.map(declaration).join('\n'));
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: COMPILER_OPTIONS, files: ['objects.ts'] }),
    );
    return [
      ...unknown.map((object) => `${nameOf(object)}: no types for ${object.apiVersion}`),
      ...compilerProblems(folder, known),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What the schemas say against the objects, a line an object; empty for good ones. They let fields pass that do not exist. */
export function schemaProblems(objects: readonly KubernetesObject[]): readonly string[] {
  const require = createRequire(import.meta.url);
  return objects.flatMap((object) => {
    const module = typesModule(object);
    const model: unknown = module === null ? null : require(module)[object.kind];
    if (typeof model !== 'function') return [`${nameOf(object)}: no schema`];
    try {
      Reflect.construct(model, [object]).validate();
      return [];
    } catch (error) {
      return [`${nameOf(object)}: ${error instanceof Error ? error.message : String(error)}`];
    }
  });
}

/** Where the types of an object are; null where nobody knows them. */
function typesModule({ apiVersion }: KubernetesObject): string | null {
  const [group = '', version] = apiVersion.split('/');
  if (version === undefined || !group.includes('.') || group.endsWith('.k8s.io'))
    return `kubernetes-models/${apiVersion}`;
  const custom = CUSTOM_GROUPS.get(group);
  return custom === undefined ? null : `${custom}/${apiVersion}`;
}

/** Each object begins a line of its own, by which a complaint is told whose it is. */
function declaration(object: KubernetesObject, index: number): string {
  return `export const object${index}: import(${JSON.stringify(typesModule(object))}).I${object.kind} = ${JSON.stringify(object)};`;
}

function compilerProblems(folder: string, objects: readonly KubernetesObject[]): string[] {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [compiler, '-p', folder, '--pretty', 'false'],
    { cwd: folder, encoding: 'utf8' },
  );
  if (status === 0) return [];
  const lines = stdout.split('\n').filter((line) => line !== '');
  if (lines.length === 0) return [`the compiler failed: ${stderr}`];
  return lines.map((line) => {
    const row = /^objects\.ts\((\d+),\d+\): (.*)$/.exec(line);
    const object = objects[Number(row?.[1]) - 1];
    return object === undefined ? line : `${nameOf(object)}: ${row?.[2]}`;
  });
}

function nameOf({ kind, metadata }: KubernetesObject): string {
  return `${kind}/${metadata.name}`;
}
