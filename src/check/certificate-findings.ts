// Could the ports show the certificates that the configuration names, and for how long?
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { CERTIFICATE_WARNING_MS } from '../config/limits.ts';
import { formatListenTarget } from '../net/listener.ts';
import { readServerCertificates } from '../net/server-certificates.ts';
import type { ServerTlsPaths } from '../net/server-tls-files.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';

interface CertificateUse {
  readonly code: FindingCode;
  /** The address that it is for. */
  readonly subject: string;
  readonly paths: ServerTlsPaths;
}

/** Reads the files of every address with TLS, as a start does. Nothing where no address has it. */
export async function certificateFindings(
  { listen, http }: Config,
  clock: Pick<Clock, 'wallMs'>,
): Promise<Finding[]> {
  const uses: CertificateUse[] = [];
  for (const target of listen) {
    if (target.kind !== 'tcp' || target.tls === null) continue;
    const subject = formatListenTarget(target);
    uses.push({ code: 'listen.certificate', subject, paths: target.tls });
  }
  if (http.listen !== null && http.tls !== null) {
    const subject = formatListenTarget(http.listen);
    uses.push({ code: 'http.certificate', subject, paths: { ...http.tls, crl: null } });
  }
  return await Promise.all(uses.map((use) => certificateFinding(use, clock.wallMs())));
}

async function certificateFinding(use: CertificateUse, wallMs: number): Promise<Finding> {
  const { code, subject, paths } = use;
  try {
    const { notBeforeMs, notAfterMs } = await readServerCertificates(paths);
    const until = new Date(notAfterMs).toISOString();
    const fix = `Have it renewed; walcast takes a new "${paths.cert}" and its key by itself`;
    const warn = (message: string): Finding => warningFinding(code, { subject, message, fix });
    if (notBeforeMs > wallMs) return warn('its certificate is not valid yet');
    if (notAfterMs <= wallMs) return warn(`its certificate has expired (${until})`);
    if (notAfterMs - wallMs < CERTIFICATE_WARNING_MS)
      return warn(`its certificate expires soon (${until})`);
    return okFinding(code, {
      subject,
      message: `its certificate and key can be used until ${until}`,
    });
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    return errorFinding(code, { subject, message: error.message, fix: error.hint ?? null });
  }
}
