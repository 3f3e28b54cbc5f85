// What do the Services of the stand-in for a cluster lead to at this moment, by connection and by name?
import type { IServiceSpec } from 'kubernetes-models/v1/ServiceSpec';
import type { LinkedService } from './kubelet-environment.ts';
import type { ClusterNetwork } from './kubelet-network.ts';
import { selects } from './kubelet-objects.ts';
import type { Spec } from './kubelet-objects.ts';
import type { Pod } from './kubelet-pod.ts';
import { portOf } from './kubelet-probes.ts';
import { ServicePort } from './kubelet-service.ts';
import type { Endpoint } from './kubelet-service.ts';

interface OpenService {
  readonly name: string;
  readonly spec: IServiceSpec;
  /** Null for a headless one. */
  readonly address: string | null;
  readonly ports: readonly ServicePort[];
}

/** All Services of a namespace. */
export class ClusterServices implements AsyncDisposable {
  readonly #network: ClusterNetwork;
  readonly #zone: string;
  readonly #services = new Map<string, OpenService>();
  readonly #hosts = new Map<string, string>();
  readonly #outside: ServicePort[] = [];
  /** As everybody in the cluster knows them, which is a little later than they are. */
  #pods: readonly { readonly pod: Pod; readonly isReady: boolean }[] = [];

  constructor(network: ClusterNetwork, namespace: string) {
    this.#network = network;
    this.#zone = `${namespace}.svc.cluster.local`;
  }

  /** Who is there, and ready, from now on. */
  publish(pods: readonly { readonly pod: Pod; readonly isReady: boolean }[]): void {
    this.#pods = pods;
  }

  /** A Service without pods: a server outside of the cluster. */
  addHost(name: string, address: string): void {
    this.#hosts.set(`${name}.${this.#zone}`, address);
  }

  /** A Service without pods, with ports of its own that lead to servers outside of the cluster. */
  async addServer(name: string, ports: Readonly<Record<number, Endpoint>>): Promise<void> {
    const address = await this.#network.serviceAddress();
    this.addHost(name, address);
    for (const [port, endpoint] of Object.entries(ports)) {
      const opened = new ServicePort(() => [endpoint]);
      this.#outside.push(opened);
      await opened.listen(address, Number(port));
    }
  }

  async open({ name, spec }: Spec<IServiceSpec>): Promise<void> {
    if (this.#services.has(name)) return;
    const address = spec.clusterIP === 'None' ? null : await this.#network.serviceAddress();
    const ports: ServicePort[] = [];
    for (const { port, targetPort } of address === null ? [] : (spec.ports ?? [])) {
      const opened = new ServicePort(() => this.#endpoints(spec, targetPort ?? port));
      ports.push(opened);
      await opened.listen(address ?? '', port);
    }
    this.#services.set(name, { name, spec, address, ports });
  }

  /** Those with an address. */
  linked(): LinkedService[] {
    return [...this.#services.values()].flatMap(({ name, spec, address }) =>
      address === null
        ? []
        : [
            {
              name,
              address,
              ports: (spec.ports ?? []).map((each) => ({
                name: each.name ?? null,
                port: each.port,
              })),
            },
          ],
    );
  }

  /** The cluster's DNS. */
  resolve(name: string): readonly string[] | null {
    const host = this.#hosts.get(name);
    if (host !== undefined) return [host];
    if (!name.endsWith(`.${this.#zone}`)) return null;
    const [first = '', second] = name.slice(0, -this.#zone.length - 1).split('.');
    const service = this.#services.get(second ?? first);
    if (service === undefined) return null;
    if (second === undefined && service.address !== null) return [service.address];
    const found = this.#selected(service.spec)
      .filter((pod) => second === undefined || pod.name === first)
      .map(({ address }) => address);
    return found.length === 0 ? null : found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const inside = [...this.#services.values()].flatMap(({ ports }) => ports);
    for (const port of [...inside, ...this.#outside]) await port[Symbol.asyncDispose]();
  }

  #endpoints(spec: IServiceSpec, target: number | string): Endpoint[] {
    return this.#selected(spec).map((pod) => ({
      host: pod.address,
      port: portOf(pod.container().spec, target),
    }));
  }

  #selected({ selector, publishNotReadyAddresses }: IServiceSpec): Pod[] {
    return this.#pods
      .filter(({ pod }) => selects(selector, pod.options.labels))
      .filter(({ isReady }) => isReady || publishNotReadyAddresses === true)
      .map(({ pod }) => pod);
  }
}
