// Who may connect to a walcast that was just set up? Access rules that let in one user, with a password. Pure.
import { hbaWord } from '../check/quoting.ts';

/** What the rules are for. */
export interface RuleNeeds {
  /** What walcast listens on, as `listen` has it. */
  readonly addresses: readonly string[];
  /** Who standbys log in as. */
  readonly user: string;
  /** Networks of other machines, in CIDR notation. */
  readonly networks: readonly string[];
  /** This machine is let in without a password. */
  readonly isTrusting: boolean;
}

/**
 * Lines of pg_hba.conf: this machine by each kind of address that is listened on, then each network, with TLS only. Everybody
 * else is refused, because no line matches.
 */
export function firstRules({ addresses, user, networks, isTrusting }: RuleNeeds): string {
  const who = `replication ${isTrusting ? 'all' : hbaWord(user)}`;
  const method = isTrusting ? 'trust' : PASSWORD;
  return [
    '# TYPE DATABASE USER ADDRESS METHOD, as in pg_hba.conf; the first line that matches decides, who matches none is refused',
    ...(addresses.some((address) => isUnix(address)) ? [`local ${who} ${method}`] : []),
    ...(addresses.every((address) => isUnix(address))
      ? []
      : LOOPBACK.map((network) => `host ${who} ${network} ${method}`)),
    ...networks.map((network) => `hostssl replication ${hbaWord(user)} ${network} ${PASSWORD}`),
    ...(networks.length === 0
      ? [
          `# hostssl replication ${hbaWord(user)} 10.0.0.0/8 ${PASSWORD} # standbys of other machines`,
        ]
      : []),
    `# host walcast ${hbaWord(user)} 127.0.0.1/32 ${PASSWORD} # database walcast is the console`,
  ].join('\n');
}

/** True where some rule asks for a password. */
export function asksForPassword({ networks, isTrusting }: RuleNeeds): boolean {
  return !isTrusting || networks.length > 0;
}

const PASSWORD = 'scram-sha-256';

const LOOPBACK: readonly string[] = ['127.0.0.1/32', '::1/128'];

function isUnix(address: string): boolean {
  return address.trim().startsWith('/');
}
