// Opens the HTTP port: probes, metrics, the JSON API. The only room that knows fastify.
import type { Log } from '../base/log.ts';
import type { TcpAddress } from '../config/config.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { StatusSource } from '../status/status.ts';

/** How to open the port. */
export interface HttpOptions {
  readonly listen: TcpAddress;
  readonly log: Log;
}

/** An open port. */
export interface HttpServer {
  /** `http://127.0.0.1:9188`, with the port really in use. */
  readonly url: string;
  readonly port: number;
  /** Stops listening, ends idle connections, waits for the running requests at most a second. */
  close(): Promise<void>;
}

/** Resolves once the port accepts connections. Rejects with OperationalError when it cannot be had. */
export function openHttp(
  options: HttpOptions,
  source: StatusSource,
  metrics: Metrics,
): Promise<HttpServer> {
  void options;
  void source;
  void metrics;
  return Promise.reject(new Error('not built yet'));
}
