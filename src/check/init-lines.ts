// What does a user type on the primary and on a standby so that both work with walcast? Pure texts.
import type { ListenAddress } from '../config/config.ts';
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
  /** Where `host`, which is for the certificate then, is; absent where a name service tells. */
  readonly hostaddr?: string;
  /** How they make sure of TLS; absent without. */
  readonly sslmode?: string;
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

/** What a standby needs to log in at walcast. */
export type StandbyPassword =
  /** Rules let it in without one. */
  | { readonly kind: 'none' }
  /** Who set walcast up knows it. */
  | { readonly kind: 'known' }
  /** There is no user with a secret yet. */
  | { readonly kind: 'missing' }
  /** It was made up, and is in a password file at this absolute path. */
  | { readonly kind: 'file'; readonly path: string };

/** How the user that standbys log in as comes by a password, and a standby to it. */
export function passwordInstructions(
  { host, port, user }: StandbyAddress,
  password: StandbyPassword,
): Instructions[] {
  switch (password.kind) {
    case 'none':
      return [];
    case 'missing':
      return [
        {
          heading: 'Make a user for standbys, and name the file in the configuration:',
          lines: [
            // Never to be read by others, not for a moment, and no list that is there is lost.
            `(umask 077 && walcast scram --user ${shellWord(user)} >> userlist.txt)    # auth.users_file: userlist.txt`,
          ],
        },
      ];
    case 'known': {
      const fields = [host.startsWith('/') ? '*' : host, String(port), '*', user];
      const escaped = fields.map((field) => field.replaceAll(/[\\:]/g, String.raw`\$&`));
      return [
        {
          heading: 'On the machine of a standby, in ~/.pgpass (mode 0600) of the user it runs as:',
          lines: [`${escaped.join(':')}:PASSWORD`],
        },
      ];
    }
    case 'file':
      return [
        {
          heading: `The password of ${user} was made up, and is in a password file. Bring it to the machine of a standby; there, as the user it runs as:`,
          lines: [
            `(umask 077 && cat ${shellWord(password.path)} >> ~/.pgpass) && chmod 600 ~/.pgpass`,
          ],
        },
      ];
  }
}

/** How a standby knows that it talks to walcast. `authority`: the certificate that signed ours. */
export function authorityInstructions(authority: string): Instructions[] {
  return [
    {
      heading:
        'The certificate of the authority that signed that of walcast, where libpq looks for it on the machine of a standby:',
      // Another server's may be there already.
      lines: [`mkdir -p ~/.postgresql && cat ${shellWord(authority)} >> ~/.postgresql/root.crt`],
    },
  ];
}

/** An item of `listen`, in YAML. */
function withCertificate(address: ListenAddress): string {
  if (address.kind === 'unix') {
    return `{ address: ${JSON.stringify(`${address.directory}:${address.port}`)} }`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `{ address: "${host}:${address.port}", tls: { cert: server.crt, key: server.key } }`;
}

/** How other machines are let in by rules that want TLS, where walcast has none yet. `host`: what they call it; `listen` as it is. */
export function certificateInstructions(
  host: string,
  listen: readonly ListenAddress[],
): Instructions[] {
  const name = shellWord(`/CN=${host}`);
  const alternative = shellWord(`subjectAltName=DNS:${host}`);
  return [
    {
      heading:
        'Other machines are let in with TLS only. A certificate to begin with; standbys verify it with sslrootcert=server.crt:',
      lines: [
        `openssl req -new -x509 -days 365 -nodes -subj ${name} -addext ${alternative} -out server.crt -keyout server.key && chmod 600 server.key`,
        `listen: [ ${listen.map(withCertificate).join(', ')} ]    # instead of "listen" in the configuration, which is in the same folder`,
      ],
    },
  ];
}

/** How a standby that exists, and one that does not yet, follow walcast. */
export function standbyInstructions(standby: StandbyAddress): Instructions[] {
  const { host, hostaddr, port, user, sslmode } = standby;
  const tls = sslmode === undefined ? '' : ` sslmode=${sslmode}`;
  const where = hostaddr === undefined ? '' : ` hostaddr=${hostaddr}`;
  const address = `host=${conninfoValue(host)}${where} port=${port} user=${conninfoValue(user)}${tls}`;
  const named = `${address} application_name=${EXAMPLE_NAME}`;
  return [
    {
      heading: `For a new standby, here called ${EXAMPLE_NAME}; this makes its slot, its settings and standby.signal, too:`,
      // Else the primary takes minutes for a checkpoint, and the backup says nothing meanwhile.
      lines: [
        `pg_basebackup -d ${shellWord(named)} -D DATA_DIRECTORY -R -c fast -C -S ${EXAMPLE_NAME}`,
      ],
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

/** How commits of the primary wait for walcast, and through it for a standby; nothing where the upstream is a standby. */
export function synchronousInstructions(
  probes: readonly HostProbe[],
  applicationName: string,
): Instructions[] {
  const known = probes.filter(({ identity }) => identity !== null);
  const primary = known.find(({ identity }) => identity?.isInRecovery === false);
  if (known.length > 0 && primary === undefined) return [];
  const now = primary?.settings.get('synchronous_standby_names') ?? '';
  const note =
    now === '' ? 'commits wait for the disk of walcast' : `it is ${settingString(now)} now`;
  return [
    {
      heading:
        'If commits are to wait (they do not by default): in postgresql.conf of the primary, and in the configuration of walcast:',
      lines: [
        `synchronous_standby_names = ${settingString(syncName(applicationName))}    # ${note}`,
        `synchronous_standby_names: FIRST 1 (${EXAMPLE_NAME})    # not only for the disk of walcast, but for this standby behind it`,
      ],
    },
  ];
}

/** A name of the list, quoted where its grammar asks for it. (syncrep_scanner.l) */
function syncName(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) && !['first', 'any'].includes(name)
    ? name
    : `"${name.replaceAll('"', '""')}"`;
}
