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
