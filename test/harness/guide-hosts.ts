// Hosts for the operations guide, so that its commands run as they stand there: each has its own name, address, /etc/walcast,
// /var/lib and ports, and sees the others by name. Namespaces of mounts, network and processes make them; all of it is gone
// when the process that holds them ends. For root on Linux.
//
//     pg-a 10.0.0.1 ── br0 ── 10.0.0.2 relay-a …       servers of PostgreSQL (15, or what clients are installed), walcast
//                                                      installed as in the image, certificates of one authority for all
import { execFile, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmod, copyFile, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { childrenOf, pollUntil } from '../../src/demo/postgres-process.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { findProgram } from '../support/requirements.ts';

const ROOT = join(import.meta.dirname, '../..');
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const WALCAST_ID = 10_001;
const OUTPUT_BYTES_MAX = 16 << 20;
const COMMAND_TIMEOUT_MS = 90_000;
const AUTHORITY_KEY_USAGE = 0x06;

/** Where the superuser's server is on each host of one. */
export const GUIDE_PGDATA = '/var/lib/postgresql/data';

/** Password of the role `replicator` on every host. */
export const GUIDE_PASSWORD = 'not-a-secret-in-here';

/** What is not there on this machine; null when nothing is missing. */
export function guideHostsProblem(): string | null {
  if (process.getuid?.() !== 0) return 'hosts of the guide need root';
  for (const program of ['ip', 'nsenter', 'setpriv', 'unshare']) {
    if (spawnSync(program, ['-V'], { stdio: 'ignore' }).error !== undefined)
      return `${program} is not installed`;
  }
  const made = spawnSync('unshare', ['--mount', '--net', '--pid', '--fork', 'true'], {
    encoding: 'utf8',
  });
  return made.status === 0 ? null : `no namespaces can be made: ${made.stderr.trim()}`;
}

/** The hosts of a page. */
export class GuideHosts {
  readonly names: readonly string[];
  readonly #workspace: Workspace;
  readonly #inside: number;
  readonly #enter: string;

  private constructor(parts: {
    names: readonly string[];
    workspace: Workspace;
    inside: number;
    enter: string;
  }) {
    this.names = parts.names;
    this.#workspace = parts.workspace;
    this.#inside = parts.inside;
    this.#enter = parts.enter;
  }

  /** Makes the hosts; nothing runs on them yet. */
  static async open(workspace: Workspace, names: readonly string[]): Promise<GuideHosts> {
    const base = workspace.directory;
    await sh(layOut(base, names));
    await putHosts(base, names);
    await putCertificates(workspace, names);
    const enter = join(base, 'enter');
    await writeFile(enter, ENTER);
    const script = network(names);
    const holder = spawn(
      'unshare',
      ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-ec', script],
      { stdio: ['pipe', 'pipe', 'inherit'], env: { PATH: SYSTEM_PATH }, cwd: '/' },
    );
    workspace.onClose(() => ended(holder));
    let said = '';
    holder.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    const inside = await pollUntil(
      'the hosts are there',
      async () => {
        if (holder.exitCode !== null) throw new Error('the hosts could not be made');
        const [pid] = await childrenOf(holder.pid ?? 0);
        return said.includes('ready') && pid !== undefined ? pid : null;
      },
      { timeoutMs: COMMAND_TIMEOUT_MS },
    );
    return new GuideHosts({ names, workspace, inside, enter });
  }

  /** Runs a script on a host, as the server's user where there is a server, else as root. Gives how it ended. */
  run(
    host: string,
    script: string,
    { input = '', asRoot = false }: { input?: string; asRoot?: boolean } = {},
  ): Promise<CommandResult> {
    const isServer = !asRoot && !host.startsWith('relay');
    const { user } = this.#workspace;
    const identity =
      isServer && user !== null
        ? ['setpriv', '--reuid', `${user.uid}`, '--regid', `${user.gid}`, '--clear-groups', '--']
        : [];
    const place = ['--target', `${this.#inside}`, '--mount', '--pid', '--net', '--'];
    const own = ['unshare', '--mount', '--', 'sh', this.#enter, this.#workspace.directory, host];
    const args = [...place, ...own, ...identity, 'bash', '-ec', script];
    return new Promise((resolve, reject) => {
      const options = {
        env: environmentOf(isServer, this.#workspace.directory),
        maxBuffer: OUTPUT_BYTES_MAX,
        timeout: COMMAND_TIMEOUT_MS,
        cwd: '/',
      };
      const child = execFile('nsenter', args, options, (error, stdout, stderr) => {
        if (error !== null && typeof error.code === 'string') reject(error);
        else {
          const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
          resolve({ exitCode, stdout, stderr });
        }
      });
      child.stdin?.on('error', () => {});
      child.stdin?.end(input);
    });
  }

  /** As {@link run}; gives what was printed, and throws with all of it where the script fails. */
  async must(host: string, script: string, options: { asRoot?: boolean } = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(host, script, options);
    if (exitCode === 0) return stdout;
    throw new Error(`${host}: exit code ${exitCode} of\n${script}\n${stderr}${stdout}`);
  }

  /** Puts a query to the server of a host as its superuser; gives the rows as psql prints them without headings. */
  async sql(host: string, query: string): Promise<string> {
    const result = await this.run(host, 'psql -XAtq -v ON_ERROR_STOP=1', { input: query });
    if (result.exitCode === 0) return result.stdout.trim();
    throw new Error(`${host}: ${query}\n${result.stderr}`);
  }

  /** Writes a file of a host. The directory has to be there. */
  async write(host: string, path: string, text: string): Promise<void> {
    const result = await this.run(host, `cat > '${path}'`, { input: text, asRoot: true });
    if (result.exitCode !== 0) throw new Error(`${host}: ${path}: ${result.stderr}`);
  }

  /** Copies the files of a directory in /var/lib whose names match to one of another host; everybody may read the copies. */
  async copyFiles(
    [fromHost, from]: readonly [string, string],
    [toHost, to]: readonly [string, string],
    names: RegExp,
  ): Promise<void> {
    const [source, target] = [this.#path(fromHost, from), this.#path(toHost, to)];
    for (const name of await readdir(source)) {
      if (!names.test(name)) continue;
      await copyFile(join(source, name), join(target, name));
      await chmod(join(target, name), 0o644);
    }
  }

  /** Where a file in /var/lib of a host is, seen from here. */
  #path(host: string, path: string): string {
    return join(this.#workspace.directory, host, 'lib', path.slice('/var/lib'.length));
  }

  /** What walcast has logged on a host. */
  async log(host: string): Promise<string> {
    const file = join(this.#workspace.directory, host, 'run/walcast.log');
    return await readFile(file, 'utf8').catch(() => '');
  }

  /** A primary with the role `replicator`, that lets it in with its password inside of TLS. */
  async makePrimary(host: string): Promise<void> {
    await this.must(
      host,
      `initdb -k -A trust -U postgres --no-sync > /dev/null
cat > $PGDATA/pg_hba.conf <<'END'
${ACCESS_RULES}
END
cat >> $PGDATA/postgresql.conf <<'END'
${SERVER_SETTINGS}
END`,
    );
    await this.startServer(host);
    await this.sql(
      host,
      `CREATE ROLE replicator LOGIN REPLICATION PASSWORD '${GUIDE_PASSWORD}';
CREATE TABLE entries (id bigserial PRIMARY KEY, entered timestamptz DEFAULT now())`,
    );
  }

  /** A standby of `upstream`, by `pg_basebackup -R`, with a slot there; started. */
  async makeStandby(host: string, upstream: string): Promise<void> {
    const name = host.replaceAll('-', '_');
    // Relays of the guide have the slots that their configuration names.
    const slot = upstream.startsWith('relay') ? '' : '-C';
    await this.must(
      host,
      `pg_basebackup -d 'host=${upstream} user=replicator application_name=${name} sslmode=verify-full' \
-D $PGDATA -R -X stream ${slot} -S ${name} -c fast --no-sync`,
    );
    await this.startServer(host);
  }

  async startServer(host: string): Promise<void> {
    await this.must(host, 'pg_ctl -w -s -l $PGDATA/../log start');
  }

  async stopServer(host: string, mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.must(host, `pg_ctl -w -s -m ${mode} stop`);
  }
}

const ACCESS_RULES = `local all all trust
local replication all trust
hostssl replication replicator 10.0.0.0/8 scram-sha-256`;

const SERVER_SETTINGS = `listen_addresses = '*'
ssl = on
ssl_cert_file = '/var/lib/postgresql/tls.crt'
ssl_key_file = '/var/lib/postgresql/tls.key'
wal_level = replica
fsync = off
shared_buffers = 16MB
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
hot_standby_feedback = on
log_replication_commands = on`;

/** $1: the base; $2: the host; then what runs there. The mounts are seen by that alone. */
const ENTER = `set -e
base=$1 host=$2
shift 2
exec nsenter --net=/run/netns/$host -- sh -ec '
base=$1 host=$2
shift 2
mount --bind $base/$host/walcast $base/etc/walcast
mount --rbind $base/etc /etc
mount --bind $base/$host/lib /var/lib
mount --bind $base/opt /opt
mount --bind $base/$host/run /run
exec "$@"' sh $base $host "$@"
`;

/** Directories of the hosts, and what is installed on all of them. */
function layOut(base: string, names: readonly string[]): string {
  const each = names.map(
    (name) => `install -d ${base}/${name} ${base}/${name}/walcast ${base}/${name}/lib
install -d -o ${WALCAST_ID} -g ${WALCAST_ID} -m 0700 ${base}/${name}/lib/walcast
install -d ${base}/${name}/lib/postgresql ${base}/${name}/lib/backup
install -d -m 1777 ${base}/${name}/run ${base}/${name}/run/postgresql`,
  );
  return `set -e
cp -a /etc ${base}/etc
install -d ${base}/etc/walcast ${base}/etc/systemd/system ${base}/bin ${base}/opt
echo 'walcast:x:${WALCAST_ID}:${WALCAST_ID}::/var/lib/walcast:/usr/sbin/nologin' >> ${base}/etc/passwd
echo 'walcast:x:${WALCAST_ID}:' >> ${base}/etc/group
${each.join('\n')}
'${process.execPath}' ${ROOT}/scripts/image-files.mjs ${base}/opt/walcast
chmod -R a+rX ${base}/opt
ln -s '${process.execPath}' ${base}/bin/node
printf '#!/bin/sh\\nexec node /opt/walcast/bin/walcast.mjs "$@"\\n' > ${base}/bin/walcast
printf '#!/bin/sh\\nexec node ${base}/bin/systemctl.mjs "$@"\\n' > ${base}/bin/systemctl
printf '#!/bin/sh\\ncat /run/walcast.log\\n' > ${base}/bin/journalctl
chmod +x ${base}/bin/*`;
}

async function putHosts(base: string, names: readonly string[]): Promise<void> {
  const lines = names.map((name, index) => `${addressOf(index)} ${name}`);
  await writeFile(join(base, 'etc/hosts'), `127.0.0.1 localhost\n${lines.join('\n')}\n`);
  await writeFile(join(base, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files\n');
  await copyFile(join(import.meta.dirname, 'systemctl.mjs'), join(base, 'bin/systemctl.mjs'));
  const unit = join(base, 'etc/systemd/system/walcast.service');
  await copyFile(join(ROOT, 'deploy/systemd/walcast.service'), unit);
}

/** One authority; each host has its own certificate, for the server and for walcast, and the password of the role. */
async function putCertificates(workspace: Workspace, names: readonly string[]): Promise<void> {
  const authority = makeCertificate({
    commonName: 'the authority of the guide',
    isAuthority: true,
    keyUsage: AUTHORITY_KEY_USAGE,
  });
  for (const name of names) {
    const own = makeCertificate({ commonName: name, dns: [name], issuer: authority });
    const server = join(workspace.directory, name, 'lib/postgresql');
    const walcast = join(workspace.directory, name, 'walcast');
    await putPair(server, own);
    await putPair(walcast, own);
    await mkdir(join(server, '.postgresql'));
    await put(join(server, '.postgresql/root.crt'), authority.pem);
    await put(join(walcast, 'ca.crt'), authority.pem);
    const line = `*:*:*:replicator:${GUIDE_PASSWORD}\n`;
    await put(join(server, '.pgpass'), line);
    await put(join(walcast, 'passfile'), line);
    await put(join(walcast, 'token'), 'the-token-of-the-guide-is-long-enough\n');
    await workspace.giveAwayTree(server);
    await sh(`chgrp -R ${WALCAST_ID} ${walcast} && chmod 0750 ${walcast} && chmod 0640 ${walcast}/*
chown ${WALCAST_ID}:${WALCAST_ID} ${walcast}/passfile && chmod 0600 ${walcast}/passfile`);
  }
}

async function putPair(directory: string, own: TestCertificate): Promise<void> {
  await put(join(directory, 'tls.crt'), own.pem);
  await put(join(directory, 'tls.key'), own.key);
}

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text, { mode: 0o600 });
}

/** A bridge with all hosts at it. */
function network(names: readonly string[]): string {
  const each = names.map(
    (name, index) => `ip netns add ${name}
ip link add v${index} type veth peer name eth0 netns ${name}
ip link set v${index} master br0 up
ip -n ${name} addr add ${addressOf(index)}/8 dev eth0
ip -n ${name} link set eth0 up
ip -n ${name} link set lo up`,
  );
  return `mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
${each.join('\n')}
echo ready
exec cat`;
}

function addressOf(index: number): string {
  return `10.0.0.${index + 1}`;
}

function environmentOf(isServer: boolean, base: string): Record<string, string> {
  // A server comes with clients of its own major; the newest clients alone may be of another one.
  const programs = dirname(findProgram('initdb') ?? '/usr/bin/initdb');
  return {
    PATH: `${base}/bin:${programs}:${SYSTEM_PATH}`,
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    HOME: isServer ? '/var/lib/postgresql' : '/root',
    ...(isServer
      ? {
          PGDATA: GUIDE_PGDATA,
          PGHOST: '/run/postgresql',
          PGUSER: 'postgres',
          PGDATABASE: 'postgres',
        }
      : {}),
  };
}

async function ended(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return;
  const end = new Promise((resolve) => {
    holder.once('close', resolve);
  });
  holder.kill('SIGKILL');
  await end;
}

function sh(script: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('sh', ['-c', script], (error, _stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${stderr}\n${script}`));
    });
  });
}
