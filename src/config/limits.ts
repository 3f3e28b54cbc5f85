// How much is too much: every bound of the program that is not a configuration key, one block a room.
// A number that limits a queue, a buffer, a name, a message or a retry is written down here and nowhere else.

// --- config

/**
 * Bytes of the configuration file that are read at most. The worst that can be written in them takes half a second to be
 * taken apart, during which a relay that reloads does nothing else; many access rules belong in a file of their own.
 */
export const CONFIG_YAML_BYTES_MAX: number = 64 * 1024;

/** Bytes of a file named by a `…_file` key that are read at most. */
export const CONFIG_FILE_BYTES_MAX: number = 1024 * 1024;

/** Aliases a YAML document may resolve to; more is taken for an expansion bomb. */
export const CONFIG_YAML_ALIASES_MAX: number = 100;

/** Problems of one configuration that are reported before the list is cut. */
export const CONFIG_ERRORS_MAX: number = 100;

/** Addresses that may be listened on. */
export const LISTEN_ADDRESSES_MAX: number = 64;

/** A configuration is taken at a reload once two readings this far apart say the same: an editor may be writing it. */
export const RELOAD_SETTLE_MS: number = 50;

/** Readings of one reload; the last one counts as it is. */
export const RELOAD_READINGS_MAX: number = 20;

// --- metrics

/** Values of the label `standby`; further names are folded into `_other`. */
export const METRICS_STANDBYS_MAX: number = 200;

/** How long the counters of a standby that left are still shown. */
export const METRICS_FORGET_STANDBY_MS: number = 15 * 60_000;

/** How long a rendering of the metrics is given again instead of a new one. */
export const METRICS_REUSE_MS: number = 1_000;

/** How long a scrape waits for the size of the file system; the two families are left out beyond. */
export const METRICS_STATFS_TIMEOUT_MS: number = 500;

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

/**
 * How long nothing may move on a connection that is not kept alive between requests: a client that sends nothing, or that
 * does not read its answer, is destroyed then.
 */
export const HTTP_INACTIVITY_MS: number = 10_000;

/** Requests of a connection that may come before the answer to the one before them is out; destroyed beyond. */
export const HTTP_EARLY_REQUESTS_MAX: number = 8;

/** How often the two timeouts of requests are looked at. */
export const HTTP_TIMEOUT_CHECK_MS: number = 1_000;

/** How long running requests are waited for when the port closes. */
export const HTTP_CLOSE_GRACE_MS: number = 1_000;

// --- walreceiver

/** The one buffer all reads of the WAL stream go into: what the kernel holds of a busy connection fits in one read. */
export const UPSTREAM_READ_BUFFER_BYTES: number = 1024 * 1024;

/** The read buffer of a tunnel: there may be many, and they carry less. */
export const TUNNEL_READ_BUFFER_BYTES: number = 64 * 1024;

/** Tunnels to the upstream that may be open at once; each is a walsender there, of which it has 10 by default. */
export const TUNNELS_MAX: number = 4;

/** Commands that may be on their way to the upstream at once on one session. */
export const UPSTREAM_COMMANDS_MAX: number = 100;

/** Rows and bytes of one answer of the upstream; a history file is the largest thing that replication commands answer. */
export const UPSTREAM_ANSWER_ROWS_MAX: number = 1_000;
export const UPSTREAM_ANSWER_BYTES_MAX: number = 4 * 1024 * 1024;

/** Result sets of one answer. */
export const UPSTREAM_RESULT_SETS_MAX: number = 100;

/** Parameters a server may report, and characters of one. PostgreSQL 18 reports 15. */
export const UPSTREAM_PARAMETERS_MAX: number = 200;
export const UPSTREAM_PARAMETER_CHARACTERS_MAX: number = 8_192;

/** Notices of one session that are logged; a server may send as many as it likes. */
export const UPSTREAM_NOTICES_LOGGED_MAX: number = 20;

/** Characters of a server's text that are repeated in a message of ours. */
export const UPSTREAM_TEXT_CHARACTERS_MAX: number = 500;

/** Unsent status updates at which further ones wait: the next one says the same and more. */
export const UPSTREAM_UNSENT_STATUS_BYTES_MAX: number = 64 * 1024;

/** Connecting and logging in, where connect_timeout sets no limit. */
export const UPSTREAM_CONNECT_MS_MAX: number = 30_000;

/** The same for each host of a list of several: one that answers nothing must not keep the others waiting long. */
export const UPSTREAM_CONNECT_ONE_OF_MS_MAX: number = 5_000;

/** Closing the stream in order at the end of a drain. */
export const UPSTREAM_FINISH_MS_MAX: number = 5_000;

/** How long a server may take to follow an orderly close. */
export const UPSTREAM_CLOSE_MS_MAX: number = 1_000;

// --- walsender

/** From connecting to the end of authentication, whatever arrives in between. (authentication_timeout) */
export const STARTUP_TIMEOUT_MS: number = 60_000;

/** Connections that are no sessions yet; when there are more, one that has been there long is closed for a newcomer. */
export const STARTUPS_MAX: number = 1_000;

/**
 * Descriptors that connections of clients leave to everything else, which are the store's files, the upstream, HTTP: where
 * the system allows few, half of them.
 */
export const DESCRIPTORS_BESIDES: number = 400;

/** How long logins and beginnings of streams may take in one turn of the event loop; the others of a crowd wait for the next. */
export const HANDSHAKE_SLICE_MS: number = 5;

/** How long the addresses of this machine, for `samehost` and `samenet`, are taken as they were. */
export const LOCAL_ADDRESSES_REUSE_MS: number = 1_000;

/** Bytes written to a client and not taken yet, above which no more of its commands are read. */
export const COMMAND_OUTPUT_BYTES_MAX: number = 64 * 1024;

/** Bytes of a client that are kept while a command waits, to see whether the client is still there. */
export const HELD_INPUT_BYTES_MAX: number = 8 * 1024;

/** Shortest time between two answers to replies that ask for one; each has to be there within 100 ms. */
export const KEEPALIVE_ANSWER_INTERVAL_MS: number = 50;

/** How long a standby whose timeout passed gets to be heard, in case it was us who did not listen. */
export const TIMEOUT_SECOND_LOOK_MS: number = 50;

/** How often a standby that waits for WAL from beyond our end hears from us. */
export const HOLD_KEEPALIVE_MS: number = 5_000;

/** How often it is looked at whether waiting for WAL from beyond our end still makes sense. */
export const HOLD_CHECK_MS: number = 500;

/** How often a draining standby that has not confirmed everything is asked again. */
export const DRAIN_PING_MS: number = 1_000;

/** Reads of segment files on the way at one time, for all standbys together. */
export const FILE_READS_MAX: number = 4;

/** Bytes of WAL read from files and not sent yet, for all standbys together; each gets its share, see below. */
export const FILE_READ_BUDGET_BYTES: number = 64 * 1024 * 1024;

/** Smallest and largest read for one standby. It may hold two of them: one in its socket, one read ahead. */
export const FILE_READ_BYTES_MIN: number = 64 * 1024;
export const FILE_READ_BYTES_MAX: number = 1024 * 1024;

/** How long a closing connection may take to send what is pending. */
export const CLOSE_GRACE_MS: number = 1_000;

/** Bytes waiting on one side of a tunnel, above which the other side is not read. */
export const TUNNEL_PENDING_BYTES_MAX: number = 1024 * 1024;

/** How long a tunnel waits after UPLOAD_MANIFEST for the backup that uses the manifest. */
export const TUNNEL_IDLE_MS_MAX: number = 60_000;

/** Longest CopyData of a client that is passed on through a tunnel, or skipped behind a failed one. (pg_basebackup sends manifests in 64 KiB pieces) */
export const TUNNEL_MESSAGE_BYTES_MAX: number = 1024 * 1024;

/** Application names that connections are counted for; further ones are counted together. */
export const APPLICATION_NAMES_MAX: number = 1_000;

/** Name that counts the connections beyond {@link APPLICATION_NAMES_MAX}. */
export const APPLICATION_NAMES_OTHER: string = '_other';

/** Log lines about connections that were refused or were no PostgreSQL clients: so many in so long a time. */
export const REFUSAL_LINES_MAX: number = 20;
export const REFUSAL_LINES_WINDOW_MS: number = 10_000;

// --- slots and retention

/** Slots that the configuration may name. */
export const CONFIGURED_SLOTS_MAX: number = 1_000;

/** How often idle slots, the size of the store and its quota are looked at. */
export const RETENTION_TICK_MS: number = 1_000;

/** Share of the limit from which on the store counts as nearly full, and below which it no longer does. */
export const RETENTION_ALARM_RATIO: number = 0.8;
export const RETENTION_ALARM_OVER_RATIO: number = 0.75;

// --- cli

/** Longest token in a token file. */
export const HTTP_TOKEN_FILE_BYTES_MAX: number = 1_024;

/** How long a command waits for an answer of a running walcast, or for the next piece of one. */
export const HTTP_CLIENT_TIMEOUT_MS: number = 5_000;

/** Bytes of an answer that are read: a thousand standbys take about half a megabyte. */
export const HTTP_ANSWER_BYTES_MAX: number = 64 * 1024 * 1024;

/** Time between two pictures of `walcast status --watch`. */
export const STATUS_WATCH_MS: number = 2_000;

// --- wal

/** WAL kept in memory for standbys that are nearly caught up, as far as nothing else needs it. */
export const TAIL_BYTES_MAX: number = 32 * 1024 * 1024;

/** WAL received and not yet on the disk, above which the upstream is not read any more. */
export const UNFLUSHED_BYTES_MAX: number = 32 * 1024 * 1024;

/** Reads of segment files under way at once; libuv has four threads for all of the process. */
export const SEGMENT_READS_MAX: number = 4;

/** Segment files that stay open for reading while nobody reads them. */
export const SEGMENT_FILES_OPEN_MAX: number = 32;

/** Longest time the durable mark stays behind: how much WAL a start after a crash has to walk through. */
export const CONTROL_SAVE_INTERVAL_MS: number = 3_000;

/** How often a write is tried again while the disk is full. */
export const NO_SPACE_RETRY_MS: number = 1_000;

/** Files of removed segments kept to become future ones, in bytes, all together; one at least, whatever its size. */
export const RECYCLED_BYTES_MAX: number = 64 * 1024 * 1024;

// --- read-through: WAL older than the store, from the upstream

/** Connections to the upstream for it; each is a walsender there. */
export const READ_THROUGH_CONNECTIONS_MAX: number = 2;

/**
 * Standbys that may read through at one time, in turns. Each holds at most {@link READ_THROUGH_BUFFER_BYTES} and one
 * message of the upstream (PostgreSQL's have 128 KiB), so all of them together 40 MiB, and as much again in their sockets.
 */
export const READ_THROUGH_READERS_MAX: number = 64;

/** History files that may be asked for at one time, besides; they go first. */
export const READ_THROUGH_HISTORIES_MAX: number = 16;

/**
 * How long is read while the walreceiver itself is not connected, and how long its places at the upstream are then left to
 * it: longer than the longest wait between two of its attempts. It may be the last place that it lacks.
 */
export const READ_THROUGH_ALONE_MS: number = 10_000;
export const READ_THROUGH_YIELD_MS: number = 6_000;

/** Checked bytes waiting for one standby, above which its connection is not read. */
export const READ_THROUGH_BUFFER_BYTES: number = 512 * 1024;

/** The read buffer of one connection. */
export const READ_THROUGH_READ_BUFFER_BYTES: number = 128 * 1024;

/** Longest time a connection is kept by one standby while another waits for one. */
export const READ_THROUGH_TURN_MS: number = 10_000;

/**
 * How long a standby may leave a full buffer untouched before it has to give up its connection. As long as its walsender
 * can hold up a shutdown of the upstream.
 */
export const READ_THROUGH_STALL_MS: number = 1_000;

/** How long a connection stays open that nobody needs. */
export const READ_THROUGH_IDLE_MS: number = 10_000;

/** Waits between attempts that failed: the first and the longest. */
export const READ_THROUGH_RETRY_MS: number = 500;
export const READ_THROUGH_RETRY_MS_MAX: number = 5_000;

/** How often turns, timeouts and retries are looked at while anything is under way. */
export const READ_THROUGH_TICK_MS: number = 250;

/** How often the upstream hears from a connection that streams; it is told no position. */
export const READ_THROUGH_STATUS_MS: number = 1_000;

/** How long the upstream may take to end a stream we have enough of; it sends what it has queued before. */
export const READ_THROUGH_END_MS: number = 5_000;

/** How long the upstream may take for a command. */
export const READ_THROUGH_COMMAND_MS: number = 10_000;

/** How long a client waits for a history file that only the upstream has: also for a turn of others to end. */
export const READ_THROUGH_HISTORY_MS: number = 30_000;

/** How long it is remembered that the upstream has no history file of a timeline, and for how many timelines. */
export const READ_THROUGH_NO_HISTORY_MS: number = 5_000;
export const READ_THROUGH_NO_HISTORY_MAX: number = 64;

// --- repair: segments damaged on our disk, fetched again from the upstream

/** Segments that are fetched at once, and those that are or wait for it. */
export const REPAIRS_AT_ONCE: number = 2;
export const REPAIRS_WAITING_MAX: number = 64;

/** How long a segment that could not be repaired is not tried again: after the first failure, and at most. */
export const REPAIR_RETRY_MS: number = 5_000;
export const REPAIR_RETRY_MS_MAX: number = 300_000;

// --- upstream times

/** WAL that becomes known within so long a time is taken for equally old. */
export const UPSTREAM_LAG_GROUP_MS: number = 20;

/** Ages of WAL not flushed yet that are kept apart; neighbours are merged beyond. */
export const UPSTREAM_LAG_GROUPS_MAX: number = 1_024;

// --- http: WAL files and tokens

/** WAL files that are given away at once. */
export const WAL_DOWNLOADS_MAX: number = 8;

/** How long a further request waits for its turn before it is asked to come again: below {@link HTTP_INACTIVITY_MS}. */
export const WAL_DOWNLOAD_WAIT_MS: number = 5_000;

/** Reads for them that are under way at once: they share four threads with everything else. */
export const WAL_DOWNLOAD_READS_MAX: number = 2;

/** Bytes of one such read, of which each download holds a few. */
export const WAL_DOWNLOAD_PIECE_BYTES: number = 256 * 1024;

/** Time for a download whatever its size, and the slowest rate beyond it: a place must not be kept for ever. */
export const WAL_DOWNLOAD_MS_MIN: number = 60_000;
export const WAL_DOWNLOAD_BYTES_PER_SECOND_MIN: number = 256 * 1024;

/** A token of fewer characters can be guessed over the network in reasonable time. */
export const HTTP_TOKEN_LENGTH_GOOD: number = 16;

/** Wrong tokens one address may send in a row; one more is forgiven each {@link HTTP_TOKEN_FORGIVE_MS}. */
export const HTTP_TOKEN_FAILURES_MAX: number = 10;
export const HTTP_TOKEN_FORGIVE_MS: number = 6_000;

/** Addresses for which wrong tokens are counted; all others are counted together. */
export const HTTP_TOKEN_ADDRESSES_MAX: number = 1_000;

// --- check

/** Time for everything that is asked of one host, where connect_timeout sets no limit. */
export const CHECK_HOST_MS: number = 10_000;

/** Hosts of the list that are asked at once. */
export const CHECK_HOSTS_AT_ONCE: number = 16;

/** Walsenders of a server that are looked at, and bytes of one answer; a server has a few of them. */
export const CHECK_ROWS_MAX: number = 1_000;
export const CHECK_ANSWER_BYTES_MAX: number = 1024 * 1024;

// --- connection strings

/** Largest service file, and largest password file, that is read. */
export const CONNINFO_FILE_BYTES_MAX: number = 1024 * 1024;

// --- timelines of the upstream

/** History files that are fetched at one identification; after that many switches in a row the server is identified anew. */
export const UPSTREAM_HISTORIES_MAX: number = 64;

/** After so many bytes no further history file is fetched at that identification; a real one has a line per switch. */
export const UPSTREAM_HISTORIES_BYTES_MAX: number = 1024 * 1024;

// --- wal: timelines

/**
 * Bytes of stored WAL before a switch point that the upstream's copy is compared with, where the segment has more: they
 * are held in memory until that is done.
 */
export const SWITCH_OVERLAP_BYTES_MAX: number = 16 << 20;

// --- walreceiver: discovery of the upstream's hosts

/** URLs that may be asked, and characters of one. */
export const DISCOVERY_URLS_MAX: number = 16;
export const DISCOVERY_URL_CHARACTERS_MAX: number = 512;

/** Bytes of an answer of Patroni, and members it may name; one member takes a few hundred bytes, more where restarts are pending. */
export const DISCOVERY_ANSWER_BYTES_MAX: number = 256 * 1024;
export const DISCOVERY_MEMBERS_MAX: number = 100;

/** Characters of a member's name, state, address and zone. (A DNS name has 253 at most.) */
export const DISCOVERY_TEXT_CHARACTERS_MAX: number = 253;

/** Between two polls while WAL streams in. Patroni itself looks every `loop_wait`, 10 s. */
export const DISCOVERY_POLL_MS: number = 5_000;

/** The same while it does not. */
export const DISCOVERY_LOST_POLL_MS: number = 1_000;

/** Waits after rounds in which no URL answered: the first and the longest; at most a poll's interval while WAL does not stream in. */
export const DISCOVERY_RETRY_MS: number = 1_000;
export const DISCOVERY_RETRY_MS_MAX: number = 30_000;

/** Time of one request: until it is connected, without a byte, and altogether. */
export const DISCOVERY_CONNECT_MS: number = 2_000;
export const DISCOVERY_SILENCE_MS: number = 3_000;
export const DISCOVERY_REQUEST_MS: number = 5_000;

/** How long a preferred server has to be seen there before a stream that works is left for it. */
export const DISCOVERY_RETURN_MS: number = 30_000;

/** The same for a leader that went on to a newer timeline without the server that is followed. */
export const DISCOVERY_LEADER_MOVED_MS: number = 5_000;

/** Shortest time between two such changes: the first, twice as long after each, and at most; forgotten after twice the longest. */
export const DISCOVERY_RETURN_AGAIN_MS: number = 30_000;
export const DISCOVERY_RETURN_AGAIN_MS_MAX: number = 600_000;

/** How long the server that is changed over to may take to be as far as we are, once the old stream has ended. */
export const DISCOVERY_CATCH_UP_MS: number = 2_000;
export const DISCOVERY_CATCH_UP_POLL_MS: number = 50;

// --- relay: the end of a process

/** A drain waits this long for the disk before it fixes how far everybody is served. */
export const DRAIN_FLUSH_MS_MAX: number = 2_000;

/** Behind a drain the disk gets this long to save slots, and again for the store; a crash loses no more than that does. */
export const DRAIN_CLOSE_MS_MAX: number = 2_000;

/** The same for an end at once, and for all of it. */
export const STOP_FLUSH_MS_MAX: number = 1_000;
export const STOP_CLOSE_MS_MAX: number = 2_000;

// --- standbys in trouble

/** How often all streaming standbys are looked at together. */
export const STANDBY_WATCH_MS: number = 1_000;

/** How long a standby may confirm nothing more, while there is more for it, before it counts as stalled. */
export const STANDBY_STALLED_MS: number = 60_000;

/** Standbys that left and are not back which are remembered, and for how long. */
export const ABSENT_STANDBYS_MAX: number = 200;
export const ABSENT_STANDBY_FORGET_MS: number = 7 * 24 * 3_600_000;

/** How long a standby is away that left with WAL it had not replayed before it is called `wedged?`: longer than a restart. */
export const ABSENT_STANDBY_WEDGED_MS: number = 60_000;

/** How long the holder of a slot has to answer when its own standby, as it seems, asks for the slot anew. */
export const TAKEOVER_PROBE_MS: number = 3_000;

/**
 * How long a holder must have been silent that has not confirmed all it was sent: our question may be far behind in what
 * is on its way. Longer than wal_receiver_status_interval, at which a standby that lives reports by itself.
 */
export const TAKEOVER_UNCONFIRMED_SILENCE_MS: number = 15_000;

// --- upstream rules

/**
 * A stream that brings no WAL for so long stands still: its other hosts are asked whether they have more. wal_receiver_timeout
 * where that is shorter.
 */
export const STANDSTILL_MS: number = 5_000;

/** While it goes on standing still they are asked again: twice as long after each time, at most so long. */
export const STANDSTILL_AGAIN_MS_MAX: number = 30_000;

/** How long WAL that another host was seen to have may still take to arrive, before the host is changed over to. */
export const STANDSTILL_CONFIRM_MS: number = 2_000;

/** A host that was changed over to, and then could not be followed, is not asked again for so long. */
export const STANDSTILL_AVOID_MS: number = 60_000;

/** The longest a single question to another host may take; connect_timeout and wal_receiver_timeout where they are shorter. */
export const STANDSTILL_PROBE_MS: number = 5_000;

/** Relays behind one another that are told apart; a longer chain is followed, but a cycle of more is not seen. */
export const RELAY_PATH_MAX: number = 16;

/** Slots that were left behind on hosts and are remembered. */
export const LEFT_SLOTS_MAX: number = 100;

/** How long another host has to be followed without a break before a slot that walcast made is dropped where it is of no use. */
export const LEFT_SLOT_DROP_AFTER_MS: number = 60_000;

/** After an attempt that failed: the first wait, and the longest. */
export const LEFT_SLOT_RETRY_MS: number = 60_000;
export const LEFT_SLOT_RETRY_MS_MAX: number = 3_600_000;
