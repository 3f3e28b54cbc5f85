// What does a user type on the primary and on a standby so that both work with walcast? Pure texts.
import type { ListenAddress } from '../config/config.ts';
import type { HostProbe } from './host-probe.ts';
import { grantReplication, hbaLine, quoteIdentifier, WAL_LEVEL_FIX } from './login-findings.ts';
import type { Finding, FindingCode } from './finding.ts';

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
    const codes = findings
      .filter(({ subject }) => subject === probe.subject)
      .map(({ code }) => code);
    const lines = primaryLines(probe, codes);
    return lines.length === 0 ? [] : [{ heading: `On ${probe.subject}, as superuser:`, lines }];
  });
}

function primaryLines(probe: HostProbe, codes: readonly FindingCode[]): string[] {
  const has = (...wanted: FindingCode[]): boolean => wanted.some((code) => codes.includes(code));
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
    ...(has('upstream.wal_level') ? [`# ${WAL_LEVEL_FIX}`] : []),
  ];
}

/** How a standby that exists, and one that does not yet, follow walcast. */
export function standbyInstructions({ host, port, user }: StandbyAddress): Instructions[] {
  const address = `host=${conninfoValue(host)} port=${port} user=${conninfoValue(user)}`;
  const primaryConninfo = `${address} application_name=${EXAMPLE_NAME}`.replaceAll("'", "''");
  return [
    {
      heading: `For a new standby, here called ${EXAMPLE_NAME}; this makes its slot, its settings and standby.signal, too:`,
      lines: [
        `pg_basebackup -d "${address} application_name=${EXAMPLE_NAME}" -D DATA_DIRECTORY -R -C -S ${EXAMPLE_NAME}`,
      ],
    },
    {
      heading:
        'For a standby that exists: in its postgresql.conf, with an empty file standby.signal beside it:',
      lines: [
        `primary_conninfo = '${primaryConninfo}'`,
        `primary_slot_name = '${EXAMPLE_NAME}'    # make it first: psql "${address} replication=true" -c 'CREATE_REPLICATION_SLOT ${EXAMPLE_NAME} PHYSICAL RESERVE_WAL'`,
      ],
    },
  ];
}

function conninfoValue(value: string): string {
  if (/^[\w.:/@+-]+$/.test(value)) return value;
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
