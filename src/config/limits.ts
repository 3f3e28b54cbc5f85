// How much is too much: every bound of the program that is not a configuration key, one block a room.
// A number that limits a queue, a buffer, a name, a message or a retry is written down here and nowhere else.
import type { KeyedLogBudgetSize } from '../base/keyed-log-budget.ts';
import type { LogBudgetSize } from '../base/log-budget.ts';

export * from './limits-process.ts';
export * from './limits-reload.ts';
export * from './limits-upstream.ts';

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

// --- metrics

/** Values of the label `standby`; further names are folded into `_other`. */
export const METRICS_STANDBYS_MAX: number = 200;

/** Values of the label `slot`; further ones are shown together as `_other`. As many as max_replication_slots has by default. */
export const METRICS_SLOTS_MAX: number = 1_000;

/** Rows (of the status, of the exposition) that a scrape does in one piece, and how long such pieces may take in one turn. */
export const METRICS_ROWS_PER_PIECE: number = 250;
export const METRICS_SLICE_MS: number = 4;

/** How long the counters of a standby that left are still shown. */
export const METRICS_FORGET_STANDBY_MS: number = 15 * 60_000;

/** How long a rendering of the metrics is given again instead of a new one. */
export const METRICS_REUSE_MS: number = 1_000;

// --- the file system of the store

/** How often it is asked how much of it is free. */
export const FREE_SPACE_INTERVAL_MS: number = 10_000;

/** How long it may take to say so; what it said before is unknown beyond. */
export const FREE_SPACE_TIMEOUT_MS: number = 500;

/** Less of it that is free is told, as the alert WalcastStoreFilling does. */
export const FREE_SPACE_ALARM_RATIO: number = 0.1;

/** Less than this share is told where the limits of the store let it take more than what is free. */
export const FREE_SPACE_LIMITED_RATIO: number = 0.25;

/** Room for fewer segments is told as critical: the one that is written, those that are prepared, and one. */
export const FREE_SPACE_SEGMENTS_MIN: number = 4;

// --- http

/** Open HTTP connections; for a further one the one goes on which nothing was asked or answered for longest. */
export const HTTP_CONNECTIONS_MAX: number = 256;

/** Those of one client network, where others than this machine can reach the port. */
export const HTTP_CONNECTIONS_PER_CLIENT_MAX: number = 128;

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

// --- walsender

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
export const HOLD_CHECK_MS: number = 200;

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

/**
 * Log lines that others cause at will: connections that are refused or are no PostgreSQL clients, a policy that is met and not
 * met by turns. So many of each kind.
 */
export const OTHERS_LOG_LINES: LogBudgetSize = { linesMax: 20, windowMs: 10_000 };

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

/** Log lines about wrong tokens, and about WAL that is fetched; a key is a client network. */
export const HTTP_LOG_LINES: KeyedLogBudgetSize = {
  linesMax: 50,
  keyLinesMax: 1,
  keysMax: 100,
  windowMs: 10_000,
};

/** Wrong tokens one address may send in a row; one more is forgiven each {@link HTTP_TOKEN_FORGIVE_MS}. */
export const HTTP_TOKEN_FAILURES_MAX: number = 10;
export const HTTP_TOKEN_FORGIVE_MS: number = 6_000;

/** Addresses for which wrong tokens are counted; all others are counted together. */
export const HTTP_TOKEN_ADDRESSES_MAX: number = 1_000;

/** How long before it expires a certificate is told of by `walcast health` and `walcast status`. */
export const CERTIFICATE_WARNING_MS: number = 14 * 24 * 60 * 60 * 1000;

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

// --- wal: timelines

/**
 * Bytes of stored WAL before a switch point that the upstream's copy is compared with, where the segment has more: they
 * are held in memory until that is done.
 */
export const SWITCH_OVERLAP_BYTES_MAX: number = 16 << 20;

// --- relay: the end of a process

/** A drain waits this long for the disk before it fixes how far everybody is served. */
export const DRAIN_FLUSH_MS_MAX: number = 2_000;

/** Behind a drain those that are about to come in get this long to hear that they are refused: a few round trips of TLS. */
export const DRAIN_ANSWER_MS_MAX: number = 1_000;

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

// --- console

/** Console sessions at one time; they take no places of max_wal_senders. */
export const CONSOLE_SESSIONS_MAX: number = 20;

/** How long a console session may send nothing, or leave our answers lying, before it is ended. */
export const CONSOLE_IDLE_MS_MAX: number = 3_600_000;
export const CONSOLE_UNREAD_MS_MAX: number = 60_000;

/** How long a session waits for a command that changes something; the command goes on. */
export const CONSOLE_COMMAND_MS_MAX: number = 30_000;

/** Commands that change something and are under way at one time, of all sessions: whoever cancels one may give the next. */
export const CONSOLE_COMMANDS_MAX: number = 32;

/** Prepared statements of one console session, and portals: each may hold the rows of one view. */
export const CONSOLE_STATEMENTS_MAX: number = 64;
export const CONSOLE_PORTALS_MAX: number = 8;

/** Settings that one console session may set. */
export const CONSOLE_SETTINGS_MAX: number = 64;

/** Statements in one Query; each may be answered with all rows of a view before the client reads any. */
export const CONSOLE_QUERY_STATEMENTS_MAX: number = 8;

/** How long questions may take in one turn of the event loop; one that has begun is finished. */
export const CONSOLE_SLICE_MS: number = 5;

/** Words of one statement, and columns, conditions and sort keys of one SELECT, all together. */
export const CONSOLE_STATEMENT_WORDS_MAX: number = 1_000;
export const CONSOLE_COLUMNS_MAX: number = 64;

/** Conditions of a question that psql asks the catalogue, and characters of a value in one. */
export const CONSOLE_CATALOG_CONDITIONS_MAX: number = 8;
export const CONSOLE_CATALOG_PATTERN_MAX: number = 100;

/** Those of them that are patterns, and steps of such a one: each may meet the name of every setting there is. */
export const CONSOLE_CATALOG_PATTERNS_MAX: number = 2;
export const CONSOLE_CATALOG_PATTERN_STEPS_MAX: number = 250;

/** Values that one message may look at, and bytes it may be answered with; where there are many standbys, by their number. */
export const CONSOLE_VALUES_MAX: number = 50_000;
export const CONSOLE_ANSWER_BYTES_MAX: number = 1024 * 1024;
export const CONSOLE_ROW_BYTES_MAX: number = 1024;

// --- strangers (walsender/entrance, audit)

/** Connections that failed to prove who they are and wait to be told so; of all networks, and of one. */
export const FAILED_WAITING_MAX: number = 256;
export const FAILED_OF_NETWORK_MAX: number = 64;

/** How long a wrong password waits for its answer: see {@link FailureLimitSize}. */
export const FAILURES: {
  readonly freeMax: number;
  readonly stepMs: number;
  readonly delayMsMax: number;
  readonly forgiveMs: number;
  readonly networksMax: number;
} = { freeMax: 10, stepMs: 100, delayMsMax: 5_000, forgiveMs: 1_000, networksMax: 1_000 };

/** Networks from which somebody was let in, which make room last; the one not seen for longest is forgotten. */
export const KNOWN_NETWORKS_MAX: number = 1_000;

/** Log lines that strangers cause, of each kind: connections that come, and those that are refused. */
export const STRANGERS_LOG_LINES: KeyedLogBudgetSize = {
  linesMax: 50,
  keyLinesMax: 10,
  keysMax: 100,
  windowMs: 10_000,
};

/** Characters of a refusal that are logged: it may name what the client sent. */
export const REFUSAL_TEXT_MAX: number = 1_000;

/** Log lines of those who were let in, of each kind; one key is a user at a network. */
export const ADMITTED_LOG_LINES: KeyedLogBudgetSize = {
  linesMax: 2_000,
  keyLinesMax: 100,
  keysMax: 1_000,
  windowMs: 10_000,
};

// --- TLS of our ports

/** How often the files of certificates are looked at: a renewed one is in use after so long, and a broken one is told of. */
export const CERTIFICATE_POLL_MS: number = 5_000;

// --- health

/** Findings of one judgement; the last one then says how many more there are. */
export const FINDINGS_MAX: number = 60;

/** Findings of one code that are told one by one; the others are one more. */
export const FINDINGS_OF_A_CODE_MAX: number = 5;

/** Characters of a finding's message, and names that one message lists. */
export const FINDING_TEXT_MAX: number = 1_000;
export const FINDING_NAMES_MAX: number = 5;

/** How long an upstream may say nothing before it is asked for a sign of life; less than {@link UPSTREAM_SILENT_MS}. */
export const QUIET_PING_MS: number = 30_000;

/** How long there may be no stream from the upstream, or no message on it, before that is critical. */
export const UPSTREAM_SILENT_MS: number = 60_000;

/** WAL that the upstream has and our own disk lacks, from which on somebody should look. */
export const UPSTREAM_BEHIND_BYTES: number = 512 * 1024 * 1024;

/** How long an answer of discovery may be old while there are no new ones. */
export const DISCOVERY_OLD_MS: number = 300_000;

/** A standby lags from both on: seconds alone are reached by an idle one, bytes alone by a bulk load. */
export const STANDBY_LAGGING_SECONDS: number = 300;
export const STANDBY_LAGGING_BYTES: number = 16 * 1024 * 1024;

/** How long a standby that is expected may be away. */
export const STANDBY_MISSING_MS: number = 600_000;

/** Share of max_wal_senders from which on somebody should look. */
export const PLACES_TAKEN_RATIO: number = 0.9;

/** How long synchronous_standby_names may be unsatisfied: a standby that restarts is back by then. */
export const SYNC_UNSATISFIED_MS: number = 30_000;

// --- http: what is shown

/** Streams of events that are open at a time, and those of one client network where others reach the port: well below all connections. */
export const HTTP_EVENT_STREAMS_MAX: number = 32;
export const HTTP_EVENT_STREAMS_PER_CLIENT_MAX: number = 16;

/** From the end of one telling to the next look at what has changed. */
export const HTTP_EVENTS_INTERVAL_MS: number = 1_000;

/** How long a stream is silent before it says that it is alive. */
export const HTTP_EVENTS_KEEP_ALIVE_MS: number = 15_000;

/** How long a subscriber may take for what it was given before its connection is cut. */
export const HTTP_EVENTS_TAKE_MS: number = 30_000;

/** How long nothing may move on a stream's connection: three times what it is silent for at most. */
export const HTTP_EVENTS_INACTIVITY_MS: number = 45_000;

/**
 * After how long without a word either way a stream's client is asked by TCP whether it is there: one that vanished is found out
 * before the next event is waiting for it, after which TCP asks no more and takes a quarter of an hour to give up.
 */
export const HTTP_EVENTS_PROBE_MS: number = 2_000;

/** Rows (standbys, slots) that are written as JSON in one piece, and how long such pieces may take in one turn. */
export const HTTP_ROWS_PER_PIECE: number = 50;
export const HTTP_SLICE_MS: number = 4;

/**
 * From so many rows on a picture of the relay is shown to all who ask within a moment, so long for each row: 0.25 s at 1,000
 * standbys. Below it each question has its own.
 */
export const HTTP_PICTURE_ROWS_FRESH: number = 100;
export const HTTP_PICTURE_MS_PER_ROW: number = 0.25;

/** Names that the check of standbys lists. */
export const HTTP_CHECK_NAMES_MAX: number = 100;
