// Answers of Patroni to GET /cluster, in the shape of several versions. (patroni/utils.py:cluster_as_json)

/** A member as Patroni writes it; what is absent is not in the answer. */
export interface SampleMember {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly api_url: string;
  readonly host?: string;
  readonly port?: number;
  readonly timeline?: number;
  readonly lag?: number | 'unknown';
  readonly tags?: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}

/** The body of an answer. */
export function bodyOf(answer: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(answer));
}

/** 1.6 to 3.0: a replica is `running`, there is no scope. */
export const PATRONI_2: { readonly members: readonly SampleMember[] } = {
  members: [
    {
      name: 'pg-0',
      role: 'leader',
      state: 'running',
      api_url: 'http://10.0.0.1:8008/patroni',
      host: '10.0.0.1',
      port: 5432,
      timeline: 3,
    },
    {
      name: 'pg-1',
      role: 'sync_standby',
      state: 'running',
      api_url: 'http://10.0.0.2:8008/patroni',
      host: '10.0.0.2',
      port: 5432,
      timeline: 3,
      tags: { clonefrom: true, zone: 'b' },
      lag: 0,
    },
    {
      name: 'pg-2',
      role: 'replica',
      state: 'start failed',
      api_url: 'http://10.0.0.3:8008/patroni',
      host: '10.0.0.3',
      port: 5432,
      lag: 'unknown',
    },
  ],
};

/** 3.1 to 4.0: a replica is `streaming`, or in archive recovery. */
export const PATRONI_4_0: {
  readonly members: readonly SampleMember[];
  readonly [key: string]: unknown;
} = {
  members: [
    {
      name: 'a',
      role: 'replica',
      state: 'streaming',
      api_url: 'https://a.example:8008/patroni',
      host: 'a.example',
      port: 5433,
      timeline: 7,
      lag: 16_384,
    },
    {
      name: 'b',
      role: 'leader',
      state: 'running',
      api_url: 'https://b.example:8008/patroni',
      host: 'b.example',
      port: 5433,
      timeline: 7,
      pending_restart: true,
      pending_restart_reason: { max_connections: { old_value: '100', new_value: '200' } },
    },
    {
      name: 'c',
      role: 'quorum_standby',
      state: 'in archive recovery',
      api_url: 'https://c.example:8008/patroni',
      host: 'c.example',
      port: 5433,
      timeline: 6,
      lag: 0,
    },
  ],
  pause: true,
  scope: 'demo',
};

/** 4.1: positions and lags of three kinds; a cluster that follows another one. */
export const PATRONI_4_1: {
  readonly members: readonly SampleMember[];
  readonly [key: string]: unknown;
} = {
  members: [
    {
      name: 'x',
      role: 'standby_leader',
      state: 'streaming',
      api_url: 'http://[fd00::1]:8008/patroni',
      host: 'fd00::1',
      port: 5432,
      timeline: 2,
    },
    {
      name: 'y',
      role: 'replica',
      state: 'streaming',
      api_url: 'http://[fd00::2]:8008/patroni',
      host: 'fd00::2',
      port: 5432,
      timeline: 2,
      tags: { noloadbalance: true, zone: 2 },
      receive_lag: 0,
      receive_lsn: '0/4000060',
      replay_lag: 0,
      replay_lsn: '0/4000060',
      lag: 0,
      lsn: '0/4000060',
    },
    {
      name: 'z',
      role: 'replica',
      state: 'creating replica',
      api_url: 'http://[fd00::3]:8008/patroni',
      receive_lag: 'unknown',
      receive_lsn: 'unknown',
      replay_lag: 'unknown',
      replay_lsn: 'unknown',
      lag: 'unknown',
      lsn: 'unknown',
    },
  ],
  scheduled_switchover: { at: '2026-11-24T10:36:00+02:00', from: 'x', to: 'y' },
  scope: 'remote',
};
