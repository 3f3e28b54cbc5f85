// From flags, environment and file to one checked configuration: precedence, units, and every mistake at once.
import { dirname, resolve } from 'node:path';
import type { Config } from './config.ts';
import { filePlaceSync } from './file-place.ts';
import type { FilePlace } from './file-place.ts';
import type { Layer } from './layer.ts';
import { CONFIG_ERRORS_MAX, CONFIG_YAML_BYTES_MAX } from './limits.ts';
import { readEnvironmentLayer, readFlagLayer } from './named-layers.ts';
import type { FlagValue } from './named-layers.ts';
import { configError, namedPlace } from './problem.ts';
import type { ConfigError } from './problem.ts';
import { readTextFile } from './read-file.ts';
import { ConfigResolver } from './resolve.ts';
import { ConfigValues } from './values.ts';
import type { FileAccess, OrderedLayers } from './values.ts';
import { readYamlLayer } from './yaml-layer.ts';

/** Where to look, highest precedence first. */
export interface ConfigSources {
  readonly flags: readonly FlagValue[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Name of the YAML file; null for none. */
  readonly file: string | null;
  /** What relative names given by flags and environment are relative to. */
  readonly workingDirectory: string;
  /** Only plain files are read: whoever asks has other things to do than to wait for a pipe. Default: false. */
  readonly isPlainOnly?: boolean;
  /** Takes the text of the file apart. Default: {@link readYamlLayer}. */
  readonly readYaml?: typeof readYamlLayer;
}

/** A configuration, or everything that is wrong with it, in the order of the file. */
export type LoadedConfig =
  | { readonly config: Config }
  | { readonly errors: readonly ConfigError[] };

/** How the secrets of a configuration are read again, for those that were read here. */
const SECRETS_AGAIN = new WeakMap<Config, () => LoadedConfig>();

/** Reads and checks everything. Touches nothing but the files it is told to read. Never throws for a mistake of the user. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const { flags, env, file, workingDirectory, isPlainOnly = false } = sources;
  const read = file === null ? NO_FILE : readFileLayer(sources, file);
  const layers: OrderedLayers = [
    ['flag', readFlagLayer(flags)],
    ['environment', readEnvironmentLayer(env)],
    ['file', read.layer],
  ];
  return resolveLayers({
    layers,
    read,
    access: {
      file: dirname(resolve(workingDirectory, file ?? '.')),
      other: resolve(workingDirectory),
      isPlainOnly,
    },
    source: file ?? '--upstream',
  });
}

/**
 * The same configuration with what its files of secrets hold now: whatever became meanwhile of the configuration file and the
 * others, they are not looked at. Null for one that {@link loadConfig} did not give. Never throws for a mistake of the user.
 */
export function loadSecretsAgain(config: Config): LoadedConfig | null {
  return SECRETS_AGAIN.get(config)?.() ?? null;
}

/** What the keys were found in. */
interface FoundLayers {
  readonly layers: OrderedLayers;
  readonly read: FileLayer;
  readonly access: FileAccess;
  /** Names what a missing key is missing from. */
  readonly source: string;
}

function resolveLayers(found: FoundLayers): LoadedConfig {
  const { layers, read, access, source } = found;
  const values = new ConfigValues(layers, access);
  for (const [name, place] of read.places) values.places.set(name, place);
  const config = new ConfigResolver(values, source).config();
  const errors = [...layers.flatMap(([, layer]) => layer.errors), ...values.errors];
  if (errors.length > 0 || config === null) {
    return { errors: errors.toSorted(byPlace).slice(0, CONFIG_ERRORS_MAX) };
  }
  const warned = withFileWarning(config, read.secretProblem);
  const again = { ...access, isPlainOnly: true, known: values };
  SECRETS_AGAIN.set(warned, () => resolveLayers({ ...found, access: again }));
  return { config: warned };
}

function withFileWarning(config: Config, secretProblem: string | null): Config {
  if (secretProblem === null || !holdsSecret(config)) return config;
  const warning = `the configuration file ${secretProblem}; it holds passwords`;
  return { ...config, warnings: [...config.warnings, warning] };
}

interface FileLayer {
  readonly layer: Layer;
  /** Why nothing secret may stand in the file. */
  readonly secretProblem: string | null;
  /** Where its name led just before it was read. */
  readonly places: ReadonlyMap<string, FilePlace>;
}

const NO_FILE: FileLayer = {
  layer: { values: new Map(), errors: [], isReadable: true },
  secretProblem: null,
  places: new Map(),
};

/** Secrets are better kept in files of their own; in this one they are warned about where others can read it. */
function holdsSecret({ values, upstream }: Config): boolean {
  const isInFile = (path: string): boolean => values.get(path)?.origin === 'file';
  const isPasswordGiven = upstream.server.password !== null;
  return isInFile('auth.users') || (isInFile('upstream.conninfo') && isPasswordGiven);
}

function readFileLayer(sources: ConfigSources, file: string): FileLayer {
  const { workingDirectory, isPlainOnly, readYaml = readYamlLayer } = sources;
  if (file === '') return unreadable('-c', 'names no file');
  const path = resolve(workingDirectory, file);
  const places = new Map([[path, filePlaceSync(path)]]);
  const content = readTextFile(path, CONFIG_YAML_BYTES_MAX, isPlainOnly);
  if ('text' in content) {
    return { layer: readYaml(content.text, file), secretProblem: content.secretProblem, places };
  }
  return unreadable(file, `the configuration file ${content.problem}`);
}

function unreadable(place: string, problem: string): FileLayer {
  const errors = [configError(namedPlace(place), problem)];
  const layer = { values: new Map(), errors, isReadable: false };
  return { layer, secretProblem: null, places: new Map() };
}

function byPlace(a: ConfigError, b: ConfigError): number {
  return (a.place.line ?? 0) - (b.place.line ?? 0) || (a.place.column ?? 0) - (b.place.column ?? 0);
}
