// Which environment, and which command line, does the kubelet give a container? (kubernetes pkg/kubelet/kubelet_pods.go:
// makeEnvironmentVariables, third_party/forked/golang/expansion/expand.go:Expand, pkg/kubelet/envvars/envvars.go)
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IEnvVar } from 'kubernetes-models/v1/EnvVar';

/** A Service with an address, as new pods of its namespace hear of it. */
export interface LinkedService {
  readonly name: string;
  readonly address: string;
  readonly ports: readonly { readonly name: string | null; readonly port: number }[];
}

/** Where values come from that are not written down in the container. */
export interface EnvironmentSources {
  /** What `ENV` of the image says. */
  readonly image: Readonly<Record<string, string>>;
  readonly services: readonly LinkedService[];
  /** A field of the pod, `metadata.labels['x']` for instance. Throws where it is none that fieldRef knows. */
  readonly field: (path: string) => string;
  /** Data of a ConfigMap or Secret; null when there is no such key. */
  readonly key: (kind: 'ConfigMap' | 'Secret', name: string, key: string) => string | null;
}

/** The whole environment of a container. Throws where the kubelet would not start it. */
export function containerEnvironment(
  container: IContainer,
  sources: EnvironmentSources,
): Record<string, string> {
  if ((container.envFrom ?? []).length > 0) throw new Error('the stand-in has no envFrom');
  const result: Record<string, string> = { ...sources.image };
  for (const service of sources.services) Object.assign(result, serviceVariables(service));
  for (const variable of container.env ?? []) {
    const value = valueOf(variable, result, sources);
    if (value !== null) result[variable.name] = value;
  }
  return result;
}

/** Replaces `$(NAME)` by its value and `$$` by `$`; a name that is not known stays as it is written. */
export function expand(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$\$|\$\(([^)]*)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (values[name] ?? whole),
  );
}

/** The command line: the image's own where the container names none. `args` alone keep the image's entrypoint. */
export function containerCommand(
  { command, args }: Pick<IContainer, 'command' | 'args'>,
  image: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] },
  environment: Readonly<Record<string, string>>,
): string[] {
  const program = command ?? image.entrypoint;
  const rest = args ?? (command === undefined ? image.cmd : []);
  return [...program, ...rest].map((word) => expand(word, environment));
}

/** `NAME_SERVICE_HOST` and its family. */
function serviceVariables({ name, address, ports }: LinkedService): Record<string, string> {
  const prefix = name.toUpperCase().replaceAll('-', '_');
  const [first] = ports;
  if (first === undefined) return {};
  const url = (port: number): string => `tcp://${address}:${port}`;
  const result: Record<string, string> = {
    [`${prefix}_SERVICE_HOST`]: address,
    [`${prefix}_SERVICE_PORT`]: String(first.port),
    [`${prefix}_PORT`]: url(first.port),
  };
  for (const { name: portName, port } of ports) {
    if (portName !== null)
      result[`${prefix}_SERVICE_PORT_${portName.toUpperCase().replaceAll('-', '_')}`] =
        String(port);
    const own = `${prefix}_PORT_${port}_TCP`;
    Object.assign(result, {
      [own]: url(port),
      [`${own}_PROTO`]: 'tcp',
      [`${own}_PORT`]: String(port),
      [`${own}_ADDR`]: address,
    });
  }
  return result;
}

function valueOf(
  { name, value, valueFrom }: IEnvVar,
  soFar: Readonly<Record<string, string>>,
  sources: EnvironmentSources,
): string | null {
  if (valueFrom === undefined) return expand(value ?? '', soFar);
  const { fieldRef, configMapKeyRef, secretKeyRef } = valueFrom;
  if (fieldRef !== undefined) return sources.field(fieldRef.fieldPath);
  const [kind, reference] =
    configMapKeyRef === undefined
      ? (['Secret', secretKeyRef] as const)
      : (['ConfigMap', configMapKeyRef] as const);
  if (reference === undefined) throw new Error(`the stand-in does not know where ${name} is from`);
  const found = sources.key(kind, reference.name ?? '', reference.key);
  if (found === null && reference.optional !== true)
    throw new Error(
      `CreateContainerConfigError: ${kind} ${reference.name} has no ${reference.key}`,
    );
  return found;
}
