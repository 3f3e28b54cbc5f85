// What does a docker-compose file say? The keys that deploy/compose uses, variables filled in; another key is refused, so that
// nothing of the file is left out of what is executed. (github.com/compose-spec/compose-spec)
import { parse } from 'yaml';

/** A mount of a service: of a folder beside the file, or of a named volume. */
export interface ComposeMount {
  readonly source: string;
  readonly target: string;
  readonly isVolume: boolean;
  readonly isReadOnly: boolean;
}

/** A service. */
export interface ComposeService {
  readonly image: string;
  readonly isBuilt: boolean;
  readonly buildContext: string | null;
  readonly buildArgs: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly user: string | null;
  readonly environment: Readonly<Record<string, string>>;
  readonly mounts: readonly ComposeMount[];
  /** `127.0.0.1:5433:5432`. */
  readonly ports: readonly string[];
  /** Services that have to be healthy before. */
  readonly dependsOn: readonly string[];
  readonly isReadOnly: boolean;
  readonly capDrop: readonly string[];
  readonly securityOpt: readonly string[];
  readonly stopGraceSeconds: number;
  /** The command that tells health. */
  readonly healthTest: readonly string[];
}

const SERVICE_KEYS = new Set(
  'image build command user environment volumes ports depends_on read_only cap_drop security_opt stop_grace_period healthcheck restart'.split(
    ' ',
  ),
);
const TOP_KEYS = new Set(['name', 'services', 'volumes', 'x-postgres']);
const DEFAULT_GRACE_S = 10;

type Json = Readonly<Record<string, unknown>>;

/** Reads a file: its services by name. Throws for a key that is not known here. */
export function parseComposeFile(
  text: string,
  env: Readonly<Record<string, string>> = {},
): ReadonlyMap<string, ComposeService> {
  const file = object(interpolated(parse(text, { merge: true }), env));
  refuseOthers(file, TOP_KEYS);
  const volumes = new Set(Object.keys(object(file['volumes'])));
  const services = Object.entries(object(file['services']));
  return new Map(services.map(([name, value]) => [name, service(object(value), volumes)]));
}

function service(value: Json, volumes: ReadonlySet<string>): ComposeService {
  refuseOthers(value, SERVICE_KEYS);
  const build = object(value['build'] ?? {});
  const health = object(value['healthcheck'] ?? {});
  const [kind, ...test] = strings(health['test']);
  if (kind !== 'CMD') throw new Error('a healthcheck of the form ["CMD", …] is expected');
  const dependencies = Object.entries(object(value['depends_on'] ?? {}));
  for (const [name, condition] of dependencies)
    if (object(condition)['condition'] !== 'service_healthy') throw new Error(`depends_on ${name}`);
  return {
    image: String(value['image']),
    isBuilt: value['build'] !== undefined,
    buildContext: typeof build['context'] === 'string' ? build['context'] : null,
    buildArgs: textValues(build['args'] ?? {}),
    command: strings(value['command']),
    user: typeof value['user'] === 'string' ? value['user'] : null,
    environment: textValues(value['environment'] ?? {}),
    mounts: strings(value['volumes']).map((line) => mount(line, volumes)),
    ports: strings(value['ports']),
    dependsOn: dependencies.map(([name]) => name),
    isReadOnly: value['read_only'] === true,
    capDrop: strings(value['cap_drop']),
    securityOpt: strings(value['security_opt']),
    stopGraceSeconds: seconds(value['stop_grace_period']),
    healthTest: test,
  };
}

function mount(line: string, volumes: ReadonlySet<string>): ComposeMount {
  const [source = '', target = '', mode = 'rw', ...rest] = line.split(':');
  const isVolume = volumes.has(source);
  if (rest.length > 0 || !target.startsWith('/') || !(isVolume || source.startsWith('./')))
    throw new Error(`${line}: source:target[:ro] is expected, of a named volume or a file beside`);
  return { source, target, isVolume, isReadOnly: mode === 'ro' };
}

/** `${NAME:-default}` in every text; `$$` is a dollar sign. */
function interpolated(value: unknown, env: Readonly<Record<string, string>>): unknown {
  if (Array.isArray(value)) return value.map((item) => interpolated(item, env));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, interpolated(item, env)]),
    );
  if (typeof value !== 'string') return value;
  return value.replaceAll(/\$(?:\$|\{(\w+):-([^}]*)\}|.)/g, (whole, name, fallback) => {
    if (whole === '$$') return '$';
    if (name === undefined) throw new Error(`${whole}: only \${NAME:-default} is known here`);
    const given = env[String(name)] ?? '';
    return given === '' ? String(fallback) : given;
  });
}

function seconds(value: unknown): number {
  if (value === undefined) return DEFAULT_GRACE_S;
  const match = typeof value === 'string' ? /^(\d+)s$/.exec(value) : null;
  if (match === null) throw new Error('a time like 40s is expected');
  return Number(match[1]);
}

function refuseOthers(value: Json, known: ReadonlySet<string>): void {
  for (const key of Object.keys(value))
    if (!known.has(key)) throw new Error(`${key}: this key is not known here`);
}

function object(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    // A volume without settings.
    return {};
  return Object.fromEntries(Object.entries(value));
}

function strings(value: unknown): string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Error('a list is expected');
  return value.map(String);
}

function textValues(value: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(object(value)).map(([name, item]) => [name, String(item)]),
  );
}
