// Which certificates do the ports of a relay show, until when are they good, and who looks after their files?
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { ListenTls } from '../config/config.ts';
import { CERTIFICATE_POLL_MS } from '../config/limits.ts';
import { ServerCertificates } from '../net/server-certificates.ts';
import type { ServerTlsPaths } from '../net/server-tls-files.ts';
import { TlsAcceptor } from '../net/tls-acceptor.ts';
import type { CertificateStatus } from '../status/certificate.ts';

/** Who shows a certificate, and where. */
export type CertificateUse = Pick<CertificateStatus, 'role' | 'address'>;

/** The certificates of one relay's ports. */
export class PortCertificates {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #open: { readonly use: CertificateUse; readonly certificates: ServerCertificates }[] =
    [];
  readonly #acceptors = new Map<ServerCertificates, TlsAcceptor>();
  #isClosed = false;

  constructor(options: { clock: Clock; log: Log }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Reads the files of a port and looks at them from now on. Rejects with OperationalError when they cannot be used. */
  async open(use: CertificateUse, paths: ServerTlsPaths): Promise<ServerCertificates> {
    const known = this.#open.find(
      ({ use: { role, address } }) => role === use.role && address === use.address,
    );
    // A port that could not be opened is tried again at the next reload.
    if (known !== undefined) return known.certificates;
    const log = this.#log.child({ component: 'tls', role: use.role, address: use.address });
    const { cert, key, ca, crl } = paths;
    const certificates = await ServerCertificates.open({
      paths: { cert, key, ca, crl },
      pollMs: CERTIFICATE_POLL_MS,
      clock: this.#clock,
      log,
    });
    this.#open.push({ use, certificates });
    if (this.#isClosed) certificates.close();
    return certificates;
  }

  /** The same for a port of standbys; null where it has no TLS. */
  async acceptor(address: string, tls: ListenTls | null): Promise<TlsAcceptor | null> {
    if (tls === null) return null;
    const certificates = await this.open({ role: 'server', address }, tls);
    const known = this.#acceptors.get(certificates);
    if (known !== undefined) return known;
    const acceptor = new TlsAcceptor(certificates, tls.clientCert);
    this.#acceptors.set(certificates, acceptor);
    return acceptor;
  }

  /** Looks at all files now. Never rejects: what is wrong with them is in the log, and in the status. */
  async refresh(): Promise<void> {
    await Promise.all(this.#open.map(({ certificates }) => certificates.refresh()));
  }

  status(): readonly CertificateStatus[] {
    return this.#open.map(({ use, certificates }) => ({
      ...use,
      notAfterMs: certificates.current().notAfterMs,
      problem: certificates.problem,
    }));
  }

  /** The files are not looked at any more. */
  close(): void {
    this.#isClosed = true;
    for (const { certificates } of this.#open) certificates.close();
    for (const acceptor of this.#acceptors.values()) acceptor.close();
  }
}
