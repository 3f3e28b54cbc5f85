// The JSON Schema of the configuration file, for editors: stricter than what the reader checks by schema, never than what
// the reader takes in the end.
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import { LOG_LEVELS } from '../base/log-levels.ts';
import { CLIENT_CERT_MODES } from './config.ts';
import { CONFIGURED_SLOTS_MAX, DISCOVERY_URLS_MAX, LISTEN_ADDRESSES_MAX } from './limits.ts';
import { LOG_COMPONENTS } from './log-components.ts';
import {
  environmentName,
  isWordListKind,
  neutralValues,
  SETTINGS,
  SLOT_NAME,
  UNSUPPORTED_KEYS,
} from './settings.ts';
import type { Setting } from './settings.ts';
import { unitWords } from './units.ts';

/** Names the schema; it is no address. */
const SCHEMA_ID = 'urn:walcast:configuration';

/** What {@link parseNumberWithUnit} takes, but for the units. */
const NUMBER = String.raw`[+-]?(?:0[xX][0-9a-fA-F]+|(?!0\d)(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)`;

/** Of two keys that say the same only one may be given. */
const EXCLUSIVE: ReadonlyMap<string, readonly (readonly [string, string])[]> = new Map([
  ['upstream', [['conninfo', 'conninfo_file']]],
  [
    'auth',
    [
      ['hba', 'hba_file'],
      ['ident', 'ident_file'],
      ['users', 'users_file'],
    ],
  ],
]);

/**
 * The whole file. Every key is optional: it may come from elsewhere. `x-walcast-reload` says whether a reload changes the
 * key, `x-walcast-environment` which variable sets it.
 */
export function configFileSchema(): TSchema {
  const planned = UNSUPPORTED_KEYS.filter((name) => neutralValues(name).length > 0);
  const keys = new Map([
    ...SETTINGS.map((setting) => [setting.path, valueSchema(setting)] as const),
    ...planned.map((path) => [path, neutralSchema(path)] as const),
  ]);
  return Type.Object(propertiesBelow('', keys), {
    $schema: 'http://json-schema.org/draft-07/schema#',
    $id: SCHEMA_ID,
    title: 'walcast.yaml',
    description: 'Configuration of walcast, a WAL relay for PostgreSQL.',
    additionalProperties: false,
  });
}

/** What a section may hold, sections of its own included; `prefix` is empty or ends with a dot. */
function propertiesBelow(
  prefix: string,
  keys: ReadonlyMap<string, TSchema>,
): Record<string, TSchema> {
  const properties: Record<string, TSchema> = {};
  const sections = new Set<string>();
  for (const [path, schema] of keys) {
    if (!path.startsWith(prefix)) continue;
    const [name = '', ...below] = path.slice(prefix.length).split('.');
    if (below.length === 0) properties[name] = Type.Optional(schema);
    else sections.add(name);
  }
  for (const name of sections) {
    const section = `${prefix}${name}`;
    const below = propertiesBelow(`${section}.`, keys);
    properties[name] = Type.Optional(sectionSchema(section, below));
  }
  return properties;
}

function sectionSchema(section: string, properties: Record<string, TSchema>): TSchema {
  const pairs = (EXCLUSIVE.get(section) ?? []).map((pair) => ({ required: [...pair] }));
  const rule = pairs.length === 0 ? {} : { not: pairs.length === 1 ? pairs[0] : { anyOf: pairs } };
  return Type.Object(properties, { additionalProperties: false, ...rule });
}

function valueSchema(setting: Setting): TSchema {
  const { kind, choices, pattern } = setting;
  const options = annotations(setting);
  switch (kind) {
    case 'text':
    case 'rules':
    case 'address':
      return Type.String({ ...options, ...(pattern === null ? {} : { pattern }) });
    case 'path':
      return Type.String({ ...options, minLength: 1 });
    case 'size':
    case 'duration':
    case 'integer':
      return numberSchema(setting);
    case 'choice':
      return Type.Enum([...choices], options);
    case 'addresses':
      return Type.Array(addressSchema(), {
        ...options,
        minItems: 1,
        maxItems: LISTEN_ADDRESSES_MAX,
      });
    case 'users':
      return Type.Record(Type.String({ minLength: 1 }), Type.String({ minLength: 1 }), options);
    case 'levels':
      return Type.Object(
        Object.fromEntries(
          LOG_COMPONENTS.map((name) => [name, Type.Optional(Type.Enum([...LOG_LEVELS]))]),
        ),
        { ...options, additionalProperties: false },
      );
    case 'names':
      return Type.Array(Type.String({ minLength: 1, pattern: pattern ?? SLOT_NAME }), {
        ...options,
        uniqueItems: true,
        maxItems: CONFIGURED_SLOTS_MAX,
      });
    case 'urls':
      return Type.Array(Type.String({ minLength: 1, pattern: '^https?://' }), {
        ...options,
        uniqueItems: true,
        maxItems: DISCOVERY_URLS_MAX,
      });
  }
}

function neutralSchema(path: string): TSchema {
  const description =
    'Not supported by this version yet; only what it does without may be written.';
  return Type.Union(
    neutralValues(path).map((value) => Type.Literal(value)),
    { description },
  );
}

/** A bare number counts the key's own unit; a text may name another one. */
function numberSchema(setting: Setting): TSchema {
  const { unit, minimum, maximum } = setting;
  const units = unit === null ? '' : `(?:${unitWords(unit).join('|')})?`;
  const pattern = String.raw`^\s*${NUMBER}\s*${units}\s*$`;
  return Type.Union(
    [Type.Number({ minimum, maximum }), Type.String({ pattern })],
    annotations(setting),
  );
}

function addressSchema(): TSchema {
  const description =
    'HOST:PORT, *:PORT, [IPv6]:PORT, or /directory[:PORT] for a Unix-domain socket.';
  return Type.Object(
    { address: Type.String({ minLength: 1, description }), tls: Type.Optional(tlsSchema()) },
    { additionalProperties: false },
  );
}

function tlsSchema(): TSchema {
  const file = (description: string): TSchema => Type.String({ minLength: 1, description });
  return Type.Object(
    {
      cert: file('Certificate of the server, with its chain (PEM).'),
      key: file('Its private key.'),
      ca: Type.Optional(file('Authorities of client certificates (PEM).')),
      crl: Type.Optional(file('Revoked client certificates (PEM).')),
      client_cert: Type.Optional(
        Type.Enum([...CLIENT_CERT_MODES], {
          description:
            'Whether clients are asked for a certificate. Default: `optional` with `ca`, else `none`.',
        }),
      ),
    },
    { additionalProperties: false, description: 'TLS at this address.' },
  );
}

function annotations(setting: Setting): Record<string, unknown> & { description: string } {
  const { path, description, isReloadable } = setting;
  const standard = defaultOf(setting);
  return {
    description,
    ...(standard === null ? {} : { default: standard }),
    'x-walcast-reload': isReloadable,
    'x-walcast-environment': environmentName(path),
  };
}

function defaultOf({ kind, defaultText }: Setting): unknown {
  if (defaultText === null) return null;
  if (kind === 'integer') return Number(defaultText);
  if (kind === 'levels') return {};
  if (isWordListKind(kind)) return [];
  return kind === 'addresses' ? [{ address: defaultText }] : defaultText;
}
