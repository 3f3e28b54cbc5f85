// What is known of the TLS that a client came in, for access rules, for the login and for the log?

/** The client's certificate, which was checked against `ca` in the handshake. Texts are bounded by what a handshake may be long. */
export interface TlsPeer {
  /** The first common name of the subject; null when it has none, or one that is no UTF-8. (be-secure-openssl.c:be_tls_open_server, peer_cn) */
  readonly commonName: string | null;
  /** The subject as RFC 2253 writes it, as `pg_stat_ssl` and a map by DN have it. (peer_dn: XN_FLAG_RFC2253) */
  readonly distinguishedName: string;
  /** Decimal. (be_tls_get_peer_serial) */
  readonly serial: string;
  /** The issuer's name as PostgreSQL's log writes a name: `/C=DE/CN=x`. (be_tls_get_peer_issuer_name) */
  readonly issuer: string;
}

/** One TLS session of the server's side, as it came out of its handshake; never changes afterwards. */
export interface TlsFacts {
  /** `TLSv1.3`. */
  readonly protocol: string;
  /** OpenSSL's name, as `TLS_AES_256_GCM_SHA384`. */
  readonly cipher: string;
  /** Of the cipher's key. */
  readonly bits: number;
  /** `postgresql`; null when the client did not ask. */
  readonly alpn: string | null;
  /** Null: the client sent no certificate. */
  readonly peer: TlsPeer | null;
  /**
   * The channel binding data `tls-server-end-point` of the certificate that was presented in this handshake, whatever has
   * been loaded since; null when its signature has no one hash (Ed25519). (RFC 5929, be_tls_get_certificate_hash)
   */
  endPoint(): Uint8Array | null;
}
