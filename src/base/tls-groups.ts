// Which key exchanges do our ports take part in?

/**
 * Elliptic curves, and no exchange in a finite field: a stranger may choose its group, and one message with the largest (ffdhe8192)
 * keeps the event loop for 150 ms. For `ecdhCurve` of node:tls. (CVE-2022-40735; PostgreSQL's ssl_groups has curves only)
 */
export const TLS_GROUPS: string = 'X25519:P-256:X448:P-521:P-384';
