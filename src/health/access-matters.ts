// What is wrong with certificates, secrets and the configuration?
import { ageText } from '../base/human-text.ts';
import { CERTIFICATE_WARNING_MS } from '../config/limits.ts';
import type { CertificateStatus } from '../status/certificate.ts';
import type { RelayStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';
import { finding, namesText, told, withoutStop } from './told.ts';

/** Of certificates that we show, of files with secrets, of the last reload. */
export function accessMatters(status: RelayStatus, nowMs: number): Finding[] {
  const { certificates, configuration } = status;
  return [
    ...certificateMatters(certificates, nowMs),
    ...told({
      code: 'secret_unusable',
      severity: 'warning',
      // Its metric counts a file with a secret, too.
      alert: 'WalcastConfigReloadFailed',
      of: configuration.secretProblems,
      subject: () => 'secrets',
      message: withoutStop,
      nextStep: () => 'Put the file right: what it held before is in effect until then.',
      others: 'files of secrets cannot be used',
    }),
    ...configurationMatters(status),
  ];
}

/** What each certificate is for, in front of its address. */
const ROLE_WORDS: Readonly<Record<CertificateStatus['role'], string>> = {
  server: 'for standbys at',
  http: 'for HTTP at',
  upstream_client: 'towards',
};

function certificateMatters(certificates: readonly CertificateStatus[], nowMs: number): Finding[] {
  const nameOf = ({ role, address }: CertificateStatus): string =>
    `certificate ${ROLE_WORDS[role]} ${address}`;
  const leftMs = ({ notAfterMs }: CertificateStatus): number => notAfterMs - nowMs;
  const soonest = certificates.toSorted((a, b) => a.notAfterMs - b.notAfterMs);
  const common = {
    subject: ({ role }: CertificateStatus): string => role,
    others: 'certificates are the same',
  };
  return [
    ...told({
      ...common,
      code: 'certificate_expired',
      severity: 'critical',
      alert: 'WalcastCertificateExpiring',
      of: soonest.filter((one) => leftMs(one) <= 0),
      message: (one) => `${nameOf(one)} has expired`,
      nextStep: () => 'Put new files in its place: walcast takes them by itself.',
    }),
    ...told({
      ...common,
      code: 'certificate_expiring',
      severity: 'warning',
      alert: 'WalcastCertificateExpiring',
      of: soonest.filter((one) => leftMs(one) > 0 && leftMs(one) < CERTIFICATE_WARNING_MS),
      message: (one) => `${nameOf(one)} expires in ${ageText(leftMs(one))}`,
      nextStep: () => 'Renew it and put new files in its place: walcast takes them by itself.',
    }),
    ...told({
      ...common,
      code: 'certificate_not_in_use',
      severity: 'warning',
      alert: null,
      of: soonest.filter(({ problem }) => problem !== null),
      message: (one) =>
        `${nameOf(one)}: newer files are not in use: ${withoutStop(one.problem ?? '')}`,
      nextStep: () =>
        'Put the files right: the certificate that was loaded before is in use until then.',
    }),
  ];
}

/** The first mistake, and how many more there are. */
function reasonOf([first, ...others]: readonly string[]): string {
  if (first === undefined) return '';
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return `: ${withoutStop(first)}${more}`;
}

function configurationMatters({ configuration }: RelayStatus): Finding[] {
  const found: Finding[] = [];
  if (!configuration.isLastReloadGood) {
    found.push(
      finding({
        code: 'reload_failed',
        severity: 'warning',
        subject: null,
        message: `the last reload was refused, and what was loaded before is in effect${reasonOf(configuration.problems)}`,
        nextStep: 'Run "walcast check -c FILE", put right what it names, and reload again.',
        alert: 'WalcastConfigReloadFailed',
      }),
    );
  }
  const { pendingRestart } = configuration;
  if (pendingRestart.length > 0) {
    found.push(
      finding({
        code: 'restart_pending',
        severity: 'info',
        subject: null,
        message: `what was changed in the configuration takes effect at a restart: ${namesText(pendingRestart)}`,
        nextStep:
          'Restart walcast when it suits: it drains first, and standbys come back by themselves.',
        alert: null,
      }),
    );
  }
  return found;
}
