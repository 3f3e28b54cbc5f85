// The table of keys as Markdown, for docs/configuration.md.
import {
  environmentName,
  isWordListKind,
  neutralValues,
  SETTINGS,
  UNSUPPORTED_KEYS,
} from './settings.ts';
import type { Setting } from './settings.ts';
import { unitName } from './units.ts';

/** One section a key: type, default, unit, reloadable, environment variable and flag, what it is for. */
export function describeKeys(): string {
  return SETTINGS.map(describeKey).join('\n\n');
}

/** The keys that are known and refused. */
export function describeUnsupportedKeys(): string {
  const names = UNSUPPORTED_KEYS.map((path) => {
    const [neutral] = neutralValues(path);
    const taken = neutral === undefined ? '' : ` (only \`${neutral === '' ? '""' : neutral}\`)`;
    return `\`${path}\`${taken}`;
  });
  return `${names.join(', ')}.`;
}

function describeKey(setting: Setting): string {
  const { path, defaultText, isReloadable, flag, description } = setting;
  const facts = [
    typeText(setting),
    defaultText === null ? 'no default' : `default \`${shownDefault(setting)}\``,
    isReloadable ? 'reloadable' : 'takes effect at a restart',
    `\`${environmentName(path)}\``,
    ...(flag === null ? [] : [`\`--${flag.name} ${flag.placeholder}\``]),
  ];
  return `### \`${path}\`\n\n${facts.join(' · ')}\n\n${description}`;
}

function shownDefault({ kind, defaultText }: Setting): string {
  if (kind === 'levels') return '{}';
  return isWordListKind(kind) ? '[]' : (defaultText ?? '');
}

function typeText({ kind, unit, minimum, maximum, choices }: Setting): string {
  const range = `${minimum} to ${maximum}`;
  switch (kind) {
    case 'size':
    case 'duration':
      return `${kind}, a bare number counts ${unit === null ? 'units' : unitName(unit)} (${range})`;
    case 'integer':
      return `whole number (${range})`;
    case 'choice':
      return choices.map((word) => `\`${word}\``).join(' or ');
    case 'addresses':
      return 'list of `{ address: …, tls: { … } }`; addresses, comma-separated, outside the file';
    case 'users':
      return 'map of names to secrets; lines of a user list outside the file';
    case 'levels':
      return 'map of components to levels; words such as `wal=debug`, comma-separated, outside the file';
    case 'names':
      return 'list of names; comma-separated outside the file';
    case 'urls':
      return 'list of URLs; comma-separated outside the file';
    case 'rules':
      return 'block of lines';
    case 'path':
      return 'file or directory name';
    case 'address':
      return 'address';
    case 'text':
      return 'text';
  }
}
