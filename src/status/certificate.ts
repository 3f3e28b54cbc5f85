// Which certificates of ours are in use, until when are they good, and is anything wrong with the files they come from?

/** A certificate that we show to others. */
export interface CertificateStatus {
  /** To standbys, to clients of the HTTP port, or to the upstream. */
  readonly role: 'server' | 'http' | 'upstream_client';
  /** Where it is shown: the address we listen on as it is configured, or the upstream's `host:port`. */
  readonly address: string;
  /** End of its validity, milliseconds since the Unix epoch; of the one in use, whatever the files hold by now. */
  readonly notAfterMs: number;
  /** Why newer files are not in use, a sentence that names the file; null when what the files hold is in use. */
  readonly problem: string | null;
}
