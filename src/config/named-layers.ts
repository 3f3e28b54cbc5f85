// What environment variables and command-line flags say about the configuration.
import type { Layer, RawValue } from './layer.ts';
import { configError, namedPlace } from './problem.ts';
import type { ConfigError } from './problem.ts';
import {
  SETTINGS,
  UNSUPPORTED_KEYS,
  environmentName,
  isListKind,
  isWordListKind,
  neutralValues,
  settingOf,
} from './settings.ts';
import type { Setting } from './settings.ts';
import { suggest } from './suggest.ts';
import { unknownKey, unsupportedMessage } from './yaml-layer.ts';

/** A value given on the command line. `flag` is how it was written: `--listen`, `--set`. */
export interface FlagValue {
  readonly path: string;
  readonly text: string;
  readonly flag: string;
}

/** The environment variable that names the configuration file when no `-c` does. */
export const CONFIG_FILE_VARIABLE = 'WALCAST_CONFIG';

/** Variables of this prefix that are no keys: read by the test suite and by the build. */
const OTHER_VARIABLES = /^WALCAST_(TEST|BENCH|DEMO)_|^WALCAST_(CONFIG|REVISION)$/;

/** What Kubernetes sets in every pod of a namespace that has a service whose name begins with "walcast". */
const SERVICE_LINK =
  /^WALCAST_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** Reads every `WALCAST_…` variable. A name that is no key is an error, like an unknown key of the file. */
export function readEnvironmentLayer(env: Readonly<Record<string, string | undefined>>): Layer {
  const byName = new Map(SETTINGS.map((setting) => [environmentName(setting.path), setting]));
  const unsupported = new Map(UNSUPPORTED_KEYS.map((path) => [environmentName(path), path]));
  const values = new Map<string, RawValue>();
  const errors: ConfigError[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (text === undefined || !name.startsWith('WALCAST_')) continue;
    const setting = byName.get(name);
    const refused = unsupported.get(name);
    if (setting !== undefined) {
      values.set(setting.path, {
        text: split(setting, text),
        place: namedPlace(name),
        block: null,
      });
    } else if (refused !== undefined && neutralValues(refused).includes(text)) {
      // What it asks for is so.
    } else if (refused !== undefined) {
      errors.push(configError(namedPlace(name), unsupportedMessage(refused)));
    } else if (!OTHER_VARIABLES.test(name) && !SERVICE_LINK.test(name)) {
      const meant = suggest(name, byName.keys());
      const hint = meant === null ? null : `Did you mean ${meant}?`;
      errors.push(configError(namedPlace(name), 'this variable sets no configuration key', hint));
    }
  }
  return { values, errors, isReadable: true };
}

/** Reads the flags. A flag given twice counts as a list where a list is taken; elsewhere the last one wins. */
export function readFlagLayer(flags: readonly FlagValue[]): Layer {
  const values = new Map<string, RawValue>();
  const errors: ConfigError[] = [];
  for (const { path, text, flag } of flags) {
    const place = namedPlace(flag);
    const setting = settingOf(path);
    if (path === '') {
      errors.push(configError(place, 'it names no key', 'It is written KEY=VALUE.'));
      continue;
    }
    if (setting === null) {
      if (neutralValues(path).includes(text)) continue;
      const isPlanned = UNSUPPORTED_KEYS.includes(path);
      const [message, hint] = isPlanned ? [unsupportedMessage(path), null] : unknownKey('', path);
      errors.push(configError(place, message, hint));
      continue;
    }
    const before = values.get(path)?.text;
    const now = split(setting, text);
    const isList = Array.isArray(before) && Array.isArray(now);
    values.set(path, { text: isList ? [...before, ...now] : now, place, block: null });
  }
  return { values, errors, isReadable: true };
}

function split(setting: Setting, text: string): string | readonly string[] {
  if (setting.kind === 'users') return text.split('\n');
  if (!isListKind(setting.kind)) return text;
  if (isWordListKind(setting.kind) && text.trim() === '') return [];
  return text.split(',').map((part) => part.trim());
}
