// Connections to scripted servers with TLS: a directory for certificates, conninfo that may name its files as `@name`,
// and a log that is kept.
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import type { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Log } from '../../src/base/log.ts';
import { dial } from '../../src/net/dial.ts';
import { UpstreamConnection } from '../../src/walreceiver/upstream-connection.ts';
import type { UpstreamConnectionOptions } from '../../src/walreceiver/upstream-connection.ts';
import type { TlsUpstream } from './tls-upstream.ts';
import { targetFor } from './upstream-target.ts';

/** What a test may want other than usual. */
export interface RigConnect {
  readonly password?: string;
  /** Where to connect; default 127.0.0.1. */
  readonly address?: string;
  readonly timeoutMs?: number;
  readonly readBufferBytes?: number;
  readonly signal?: AbortSignal;
  readonly onClosed?: UpstreamConnectionOptions['onClosed'];
}

export class TlsRig {
  /** Warnings that were logged. */
  readonly warnings: string[] = [];
  readonly #directory: string;
  readonly #log: Log;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#log = {
      ...silentLog,
      warn: (text, fields) => void this.warnings.push(`${text} ${JSON.stringify(fields ?? {})}`),
    };
  }

  static async open(): Promise<TlsRig> {
    return new TlsRig(await mkdtemp(join(tmpdir(), 'walcast-tls-')));
  }

  async close(): Promise<void> {
    await rm(this.#directory, { recursive: true });
  }

  path(name: string): string {
    return join(this.#directory, name);
  }

  /** Writes a file, with mode 0600 unless another is given. */
  async write(name: string, content: string | Buffer, mode = 0o600): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), content);
    await chmod(this.path(name), mode);
  }

  /** Begins to connect; the server's half is played by whoever accepts. `host` is localhost unless it is given. */
  connect(
    upstream: { port: number },
    conninfo: string,
    how: RigConnect = {},
  ): Promise<UpstreamConnection> {
    const text = conninfo.replaceAll('=@', `=${this.#directory}/`);
    const parsed = targetFor(/\bhost=/.test(text) ? text : `host=localhost ${text}`);
    const host = {
      host: parsed.hosts[0]?.host ?? 'localhost',
      address: how.address ?? '127.0.0.1',
      port: upstream.port,
      password: how.password ?? null,
    };
    return UpstreamConnection.open({
      target: { ...parsed, hosts: [host] },
      host,
      database: 'replication',
      applicationName: 'tester',
      isReplication: true,
      timeoutMs: how.timeoutMs ?? 10_000,
      readBufferBytes: how.readBufferBytes ?? 64 << 10,
      clock: systemClock,
      log: this.#log,
      dial,
      ...(how.signal === undefined ? {} : { signal: how.signal }),
      ...(how.onClosed === undefined ? {} : { onClosed: how.onClosed }),
    });
  }

  /** The error that connecting ends with. */
  async refusal(
    upstream: { port: number },
    conninfo: string,
    how: RigConnect = {},
  ): Promise<OperationalError> {
    return await this.connect(upstream, conninfo, how).then(
      (connection) => {
        connection.destroy();
        throw new Error('the login succeeded');
      },
      (error: OperationalError) => error,
    );
  }

  /** Connects, is let in without a password, and leaves. */
  async logIn(upstream: TlsUpstream, conninfo: string): Promise<UpstreamConnection> {
    const opening = this.connect(upstream, conninfo);
    const failed = opening.then(() => null);
    const accepted = await Promise.race([upstream.accept(), failed]);
    await accepted?.session.login();
    const connection = await opening;
    connection.destroy();
    return connection;
  }
}
