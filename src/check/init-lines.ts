// What does a user type on the primary and on a standby so that both work with walcast? Pure texts.
import type { Config, ListenAddress } from '../config/config.ts';
import type { HostProbe } from './host-probe.ts';
import type { Finding, FindingCode } from './finding.ts';
import { grantReplication, hbaLine } from './login-findings.ts';
import { conninfoValue, quoteIdentifier, settingString, shellWord } from './quoting.ts';

/** One heading with the lines below it. */
export interface Instructions {
  readonly heading: string;
  readonly lines: readonly string[];
}

/** Where standbys find walcast, and as whom they log in. */
export interface StandbyAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
}

/** Name that stands for the standby in examples. */
const EXAMPLE_NAME = 'standby_a';

/** How standbys reach the first address of `listen`; `machineName` where that is every interface. */
export function standbyAddress(
  listen: readonly ListenAddress[],
  { machineName, user }: { machineName: string; user: string },
): StandbyAddress | null {
  const [first] = listen;
  if (first === undefined) return null;
  if (first.kind === 'unix') return { host: first.directory, port: first.port, user };
  const isEvery = ['*', '0.0.0.0', '::'].includes(first.host);
  return { host: isEvery ? machineName : first.host, port: first.port, user };
}

/** What is missing on the primary, as far as it kept us out; empty where nothing did. */
export function primaryInstructions(
  probes: readonly HostProbe[],
  findings: readonly Finding[],
): Instructions[] {
  return probes.flatMap((probe) => {
    const lines = primaryLines(
      probe,
      findings.filter(({ subject }) => subject === probe.subject),
    );
    return lines.length === 0 ? [] : [{ heading: `On ${probe.subject}, as superuser:`, lines }];
  });
}

function primaryLines(probe: HostProbe, findings: readonly Finding[]): string[] {
  const errors = findings.filter(({ severity }) => severity === 'error');
  const has = (...wanted: FindingCode[]): boolean =>
    errors.some(({ code }) => wanted.includes(code));
  const role = quoteIdentifier(probe.user);
  const create = `CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '…';`;
  const hba = `${hbaLine(probe, probe.failure?.message ?? '')}    # a line of pg_hba.conf; then SELECT pg_reload_conf();`;
  const isUnknown = has(
    'upstream.unreachable',
    'upstream.name',
    'upstream.timeout',
    'upstream.starting',
  );
  return [
    ...(isUnknown || has('upstream.role', 'upstream.password', 'upstream.password_missing')
      ? [`${create}    -- unless it exists`]
      : []),
    ...(has('upstream.replication_attribute') ? [grantReplication(probe.user)] : []),
    ...(isUnknown || has('upstream.hba', 'upstream.auth_method') ? [hba] : []),
    ...errors
      .filter(({ code }) => code === 'upstream.wal_level' || code === 'upstream.max_wal_senders')
      .map(({ fix }) => `# ${fix ?? ''}`),
  ];
}

/** How standbys of other machines are let in, where no user has a secret yet. */
export function userInstructions({ auth }: Config, user: string): Instructions[] {
  if (auth.users.size > 0 || auth.query !== null) return [];
  return [
    {
      heading:
        'For standbys on other machines: a user with a password, and TLS; then a hostssl line in auth.hba:',
      lines: [
        `walcast scram --user ${shellWord(user)} > userlist.txt && chmod 600 userlist.txt    # auth.users_file: userlist.txt`,
        'listen: [ { address: "*:5432", tls: { cert: server.crt, key: server.key } } ]',
      ],
    },
  ];
}

/** How a standby that exists, and one that does not yet, follow walcast. */
export function standbyInstructions({ host, port, user }: StandbyAddress): Instructions[] {
  const address = `host=${conninfoValue(host)} port=${port} user=${conninfoValue(user)}`;
  const named = `${address} application_name=${EXAMPLE_NAME}`;
  return [
    {
      heading: `For a new standby, here called ${EXAMPLE_NAME}; this makes its slot, its settings and standby.signal, too:`,
      lines: [`pg_basebackup -d ${shellWord(named)} -D DATA_DIRECTORY -R -C -S ${EXAMPLE_NAME}`],
    },
    {
      heading:
        'For a standby that exists: in its postgresql.conf, with an empty file standby.signal beside it:',
      lines: [
        `primary_conninfo = ${settingString(named)}`,
        `primary_slot_name = '${EXAMPLE_NAME}'    # make it first: psql ${shellWord(`${address} replication=true`)} -c 'CREATE_REPLICATION_SLOT ${EXAMPLE_NAME} PHYSICAL RESERVE_WAL'`,
      ],
    },
  ];
}
