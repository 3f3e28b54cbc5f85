// What does a person do after walcast init? How standbys reach walcast, and the lines for them and for the primary.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import type { Finding } from '../check/finding.ts';
import type { HostProbe } from '../check/host-probe.ts';
import {
  authorityInstructions,
  certificateInstructions,
  passwordInstructions,
  primaryInstructions,
  standbyAddress,
  standbyInstructions,
  synchronousInstructions,
} from '../check/init-lines.ts';
import type { Instructions, StandbyAddress, StandbyPassword } from '../check/init-lines.ts';
import { shellWord } from '../check/quoting.ts';
import type { Config } from '../config/config.ts';
import { parseIpAddress } from '../pg/ip-address.ts';
import { TOKEN_FILE } from './init-draft.ts';
import type { NewFile } from './init-files.ts';

/** How a standby gets in. */
export interface StandbyAccess {
  /** Null where walcast listens nowhere. */
  readonly address: StandbyAddress | null;
  readonly password: StandbyPassword;
}

/** A line of a password file, its fields in order. */
export function passwordFileLine(fields: readonly string[]): string {
  const escaped = (field: string): string =>
    field === '*' ? field : field.replaceAll(/[\\:]/g, String.raw`\$&`);
  return fields.map(escaped).join(':');
}

/** By what name, as whom and with what standbys log in. `passwordFile`: where a password that was made up is. */
export function standbyAccess(
  config: Config,
  {
    user,
    passwordFile,
    hasSecret,
    networks,
  }: {
    user: string;
    passwordFile: string | null;
    hasSecret: boolean;
    networks: readonly string[];
  },
): StandbyAccess {
  const [first] = config.listen;
  const tls = first?.kind === 'tcp' ? first.tls : null;
  const name = tls === null ? null : certificateName(tls.cert);
  const listened = standbyAddress(config.listen, { machineName: name ?? hostname(), user });
  const isNumeric = listened !== null && parseIpAddress(listened.host) !== null;
  // The name in the certificate is what is verified.
  const address =
    isNumeric && name !== null ? { ...listened, host: name, hostaddr: listened.host } : listened;
  // Other machines are let in no other way.
  const isSecured = tls !== null || networks.length > 0;
  const isAsked = (config.hba?.rules.rules ?? []).some(({ method }) =>
    PASSWORD_METHODS.has(method),
  );
  return {
    address: address === null || !isSecured ? address : { ...address, sslmode: 'verify-full' },
    password: passwordOf({ isAsked, passwordFile, hasSecret }),
  };
}

const PASSWORD_METHODS: ReadonlySet<string> = new Set(['scram-sha-256', 'md5']);

function passwordOf({
  isAsked,
  passwordFile,
  hasSecret,
}: {
  isAsked: boolean;
  passwordFile: string | null;
  hasSecret: boolean;
}): StandbyPassword {
  if (!isAsked) return { kind: 'none' };
  if (passwordFile !== null) return { kind: 'file', path: passwordFile };
  return { kind: hasSecret ? 'known' : 'missing' };
}

/** The first name that a certificate is for; null where it cannot be read or has none. */
function certificateName(path: string): string | null {
  const names = readCertificate(path)?.subjectAltName ?? '';
  return /(?:^|, )DNS:([^,*"]+)/.exec(names)?.[1] ?? null;
}

function isSelfSigned(path: string): boolean {
  const certificate = readCertificate(path);
  return certificate !== null && certificate.issuer === certificate.subject;
}

/** What is wrong with the file is told by the check. */
function readCertificate(path: string): X509Certificate | null {
  try {
    return new X509Certificate(readFileSync(path));
  } catch {
    return null;
  }
}

/** What to do next, on which machine. */
export function nextSteps(
  config: Config,
  {
    access: { address, password },
    findings,
    probes,
    networks,
  }: {
    access: StandbyAccess;
    findings: readonly Finding[];
    probes: readonly HostProbe[];
    networks: readonly string[];
  },
): Instructions[] {
  const parts = primaryInstructions(probes, findings);
  if (address === null) return parts;
  const [first] = config.listen;
  const tls = first?.kind === 'tcp' ? first.tls : null;
  if (networks.length > 0 && tls === null)
    parts.push(...certificateInstructions(hostname(), config.listen));
  parts.push(...passwordInstructions(address, password));
  if (tls !== null) {
    parts.push(...authorityInstructions(isSelfSigned(tls.cert) ? tls.cert : 'AUTHORITY.crt'));
  } else if (networks.length > 0) {
    parts.push(...authorityInstructions('server.crt'));
  }
  parts.push(...standbyInstructions(address));
  parts.push(...synchronousInstructions(probes, config.upstream.applicationName));
  return parts;
}

/** Which files there are now, and the command that comes next. */
export function lastWords(
  files: readonly NewFile[],
  {
    output,
    isClean,
    isForOthers,
  }: {
    output: string;
    isClean: boolean;
    /** Another user will run walcast, for whom the check has not spoken. */
    isForOthers: boolean;
  },
): string[] {
  const [configuration, ...others] = files;
  const file = shellWord(output);
  const token = others.find(({ path }) => basename(path) === TOKEN_FILE);
  return [
    '',
    `Wrote ${output}. Look at auth.hba in it: it says which standbys may connect.`,
    ...others.map(({ path }) => `Wrote ${path}, for its owner only: it holds a secret.`),
    ...(configuration?.isSecret === true
      ? [
          'The configuration holds a password, so its mode is 0600. Better: keep the connection string in a file of its own (upstream.conninfo_file), or the password in ~/.pgpass.',
        ]
      : []),
    ...(token === undefined
      ? []
      : [
          `Commands that change a running walcast show the token: walcast drain --token-file ${shellWord(token.path)}`,
        ]),
    ...(isForOthers
      ? [
          `Next, as the user that walcast will run as, who may see other files than root: walcast check -c ${file} --deep`,
        ]
      : [isClean ? `Next: walcast run -c ${file}` : `Next: walcast check -c ${file} --deep`]),
  ];
}
