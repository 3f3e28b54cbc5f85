// Is a server there that may take over from the one that is followed, and how far is it? A second session, on which nothing is
// created or changed, so that a stream that works is not ended for a server that cannot be had.
import type { Clock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { TUNNEL_READ_BUFFER_BYTES, UPSTREAM_CONNECT_ONE_OF_MS_MAX } from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { StoredEnd, UpstreamIdentity } from './ports.ts';
import { answerOf } from './upstream-command.ts';
import type { CommandRunner } from './upstream-command.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import { identifyUpstream, readIdentifySystem } from './upstream-identify.ts';
import { sideSessionName } from './side-session.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What is asked of a candidate. */
export interface ProbeOptions {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
  /** Ours; the session has another, so that it is never taken for the walreceiver. */
  readonly applicationName: string;
  readonly stored: StoredEnd;
  readonly clock: Clock;
  readonly dial: Dial;
  readonly signal: AbortSignal;
}

/** A session to a candidate. */
export class CandidateProbe {
  readonly host: UpstreamHost;
  /** As it was when it was asked; of the kind that target_session_attrs wants. */
  readonly identity: UpstreamIdentity;
  readonly #connection: UpstreamConnection;
  readonly #runner: CommandRunner;

  private constructor(parts: {
    host: UpstreamHost;
    identity: UpstreamIdentity;
    connection: UpstreamConnection;
    runner: CommandRunner;
  }) {
    this.host = parts.host;
    this.identity = parts.identity;
    this.#connection = parts.connection;
    this.#runner = parts.runner;
  }

  /** Connects, logs in and asks. Rejects with OperationalError or ProtocolViolation; nothing is left open then. */
  static async open(options: ProbeOptions): Promise<CandidateProbe> {
    const { target, host, applicationName, stored, clock, dial, signal } = options;
    const timeoutMs = target.connectTimeoutMs || UPSTREAM_CONNECT_ONE_OF_MS_MAX;
    const connection = await UpstreamConnection.open({
      target,
      host,
      database: 'replication',
      applicationName: sideSessionName(applicationName, '_probe'),
      isReplication: true,
      timeoutMs,
      readBufferBytes: TUNNEL_READ_BUFFER_BYTES,
      clock,
      log: silentLog,
      dial,
      signal,
    });
    const runner = {
      parameters: connection.parameters,
      run: (command: string) => connection.query(command, { timeoutMs }),
    };
    try {
      const wanted = target.targetSessionAttrs;
      const { identity } = await identifyUpstream(runner, null, { wanted, stored });
      return new CandidateProbe({ host, identity, connection, runner });
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Where it is now. Rejects with OperationalError when it cannot be asked any more. */
  async position(): Promise<{ readonly timeline: TimelineId; readonly xlogPos: Lsn }> {
    return readIdentifySystem(await answerOf(this.#runner, 'IDENTIFY_SYSTEM'));
  }

  close(): void {
    this.#connection.close();
  }
}
