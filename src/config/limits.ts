// How much is too much: every bound of the program that is not a configuration key, one block a room.
// A number that limits a queue, a buffer, a name, a message or a retry is written down here and nowhere else.

// --- config

/** Bytes of a configuration file, or of a file named by a `…_file` key, that are read at most. */
export const CONFIG_FILE_BYTES_MAX: number = 1024 * 1024;

/** Aliases a YAML document may resolve to; more is taken for an expansion bomb. */
export const CONFIG_YAML_ALIASES_MAX: number = 100;

/** Problems of one configuration that are reported before the list is cut. */
export const CONFIG_ERRORS_MAX: number = 100;

/** Addresses that may be listened on. */
export const LISTEN_ADDRESSES_MAX: number = 64;

// --- metrics

/** Values of the label `standby`; further names are folded into `_other`. */
export const METRICS_STANDBYS_MAX: number = 200;

/** How long the counters of a standby that left are still shown. */
export const METRICS_FORGET_STANDBY_MS: number = 15 * 60_000;

// --- http

/** Open HTTP connections; further ones are closed at once. */
export const HTTP_CONNECTIONS_MAX: number = 256;

/** Bytes of a request body; 413 beyond. */
export const HTTP_BODY_BYTES_MAX: number = 64 * 1024;

/** Bytes of all headers of a request; 431 beyond. */
export const HTTP_HEADER_BYTES_MAX: number = 16 * 1024;

/** Time for a request's headers to arrive. */
export const HTTP_HEADERS_TIMEOUT_MS: number = 5_000;

/** Time for a whole request to arrive. */
export const HTTP_REQUEST_TIMEOUT_MS: number = 10_000;

/** How long a kept-alive connection may stay idle; longer than Prometheus' usual scrape interval is not needed. */
export const HTTP_KEEP_ALIVE_MS: number = 30_000;

/** How often the two timeouts above are looked at. */
export const HTTP_TIMEOUT_CHECK_MS: number = 1_000;

/** How long running requests are waited for when the port closes. */
export const HTTP_CLOSE_GRACE_MS: number = 1_000;
