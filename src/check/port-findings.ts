// Could walcast listen where it is told to, and does the system let it have so many connections?
import type { OperationalError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { probeListen } from '../net/listen-probe.ts';
import { formatListenTarget } from '../net/listener.ts';
import type { ListenTarget } from '../net/listener.ts';
import { openFilesMax } from '../net/open-files.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';
import type { StorageCheck } from './storage-check.ts';

/** Files and sockets besides one for each standby: listeners, upstream, segments being read, slots being written. */
const FILES_BESIDES = 256;

interface NamedTarget {
  readonly code: FindingCode;
  readonly target: ListenTarget;
}

/** Tries every address, unless a walcast runs here already, whose addresses they are. */
export async function portFindings(
  { listen, http, hba }: Config,
  { owner }: Pick<StorageCheck, 'owner'>,
): Promise<Finding[]> {
  const isTcpClosed = hba === null;
  const targets: NamedTarget[] = listen
    .filter(({ kind }) => kind === 'unix' || !isTcpClosed)
    .map((target) => ({ code: 'listen.address', target }));
  if (http.listen !== null) targets.push({ code: 'http.address', target: http.listen });
  const problems = owner === null ? await probeListen(targets.map(({ target }) => target)) : null;
  return [
    ...(isTcpClosed ? [noRules()] : []),
    ...targets.map(({ code, target }, index) => {
      const subject = formatListenTarget(target);
      if (problems !== null) return portFinding(code, subject, problems[index] ?? null);
      const pid = owner?.pid ?? null;
      const who = `the walcast that is running${pid === null ? '' : ` (pid ${pid})`}`;
      const message = `not tried: ${who} may listen there`;
      return okFinding(code, { subject, message });
    }),
  ];
}

function portFinding(
  code: FindingCode,
  subject: string,
  problem: OperationalError | null,
): Finding {
  if (problem === null) return okFinding(code, { subject, message: 'free to listen on' });
  const key = code === 'http.address' ? '"http.listen"' : '"listen"';
  const fix = (problem.hint ?? '').replace('"listen"', key);
  return errorFinding(code, { subject, message: problem.message, fix });
}

function noRules(): Finding {
  return warningFinding('listen.rules', {
    subject: 'auth.hba',
    message: 'there are no access rules, so no TCP port is opened for standbys',
    fix: 'Give auth.hba or auth.hba_file, starting from a line such as: host replication all 127.0.0.1/32 trust',
  });
}

/** Compares the limit of open files with what `storage.max_wal_senders` may need. Empty where the system does not say. */
export async function limitFindings({ storage }: Config): Promise<Finding[]> {
  const limit = await openFilesMax();
  if (limit === null) return [];
  const needed = storage.maxWalSenders + FILES_BESIDES;
  const text = {
    subject: 'storage.max_wal_senders',
    message: `${storage.maxWalSenders} standbys need up to ${needed} open files, and this process may have ${limit}`,
  };
  if (limit >= needed) return [okFinding('limits.nofile', text)];
  return [
    warningFinding('limits.nofile', {
      ...text,
      fix: `Raise the limit (LimitNOFILE=${needed} in the systemd unit, or ulimit -n ${needed}), or lower storage.max_wal_senders`,
    }),
  ];
}
