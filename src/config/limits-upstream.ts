// The limits of what is asked of an upstream and taken from it; see limits.ts for the rules that hold for all of them.

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

/** While they wait it is looked so often whether there is room: the positions that wait may be the last ones that move. */
export const UPSTREAM_STATUS_ROOM_MS: number = 100;

/** The first status update of a stream is repeated after so long where commits may wait for it. */
export const UPSTREAM_STATUS_AGAIN_MS: number = 500;

/**
 * A standby that asks so often in a row, and for so long, to have confirmed what we have received of it, stops. Longer than a
 * flush takes, or a standby of ours that is asked.
 */
export const UPSTREAM_STOP_ASKS_MIN: number = 50;
export const UPSTREAM_STOP_MS: number = 1_500;

/**
 * Questions so far apart are no such row: a server that stops asks as fast as it is answered. One that goes on asks, too, half
 * of its wal_sender_timeout after our last word.
 */
export const UPSTREAM_STOP_GAP_MS: number = 500;

/** Connecting and logging in, where connect_timeout sets no limit. */
export const UPSTREAM_CONNECT_MS_MAX: number = 30_000;

/** The same for each host of a list of several: one that answers nothing must not keep the others waiting long. */
export const UPSTREAM_CONNECT_ONE_OF_MS_MAX: number = 5_000;

/** Closing the stream in order at the end of a drain. */
export const UPSTREAM_FINISH_MS_MAX: number = 5_000;

/** How long a server may take to follow an orderly close. */
export const UPSTREAM_CLOSE_MS_MAX: number = 1_000;

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

/** Ends of WAL whose times are kept for all standbys: 16 bytes each. Beyond, what is old is told apart less finely. */
export const LAG_WAL_SAMPLES_MAX: number = 16_384;

/** Commits whose times are kept for all standbys; the same. */
export const LAG_COMMIT_SAMPLES_MAX: number = 16_384;

// --- timelines of the upstream

/** History files that are fetched at one identification; after that many switches in a row the server is identified anew. */
export const UPSTREAM_HISTORIES_MAX: number = 64;

/** After so many bytes no further history file is fetched at that identification; a real one has a line per switch. */
export const UPSTREAM_HISTORIES_BYTES_MAX: number = 1024 * 1024;

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

// --- upstream word

/** Shortest time between two questions to the upstream about its end of WAL, however many standbys wait beyond ours. */
export const UPSTREAM_WORD_INTERVAL_MS: number = 100;

/** A question that is not answered is asked again after so long. */
export const UPSTREAM_WORD_PATIENCE_MS: number = 1_000;

/** How long what an upstream sends right behind its answer may take. */
export const UPSTREAM_WORD_SETTLE_MS: number = 100;

// --- hot standby feedback

/** Shortest time between two messages to the upstream, and between two looks whether something can be said by now. */
export const FEEDBACK_SENT_MS_MIN: number = 1_000;

/** Longest time between two messages where `wal_receiver_status_interval` is 0: a horizon that is never moved would hold for ever. */
export const FEEDBACK_INTERVAL_DEFAULT_MS: number = 10_000;

/** How long after our start nothing is cleared or moved forward that an earlier process said: standbys and owners of slots come back. */
export const FEEDBACK_GRACE_MS: number = 60_000;

/** Shortest time between two notes on the disk of what was said, where a crash in between holds more, not less. */
export const FEEDBACK_NOTE_MS: number = 10_000;

/** Standbys without a slot that are waited for by name after a restart; when there were more, for all that time. */
export const FEEDBACK_NAMES_MAX: number = 2_000;

// --- auth_query

/** Users not known before that the upstream is being asked about at one time, and how long one question may take, connecting included. */
export const AUTH_QUESTIONS_MAX: number = 64;
export const AUTH_QUESTION_MS_MAX: number = 5_000;

/** Sessions at the upstream for such questions, how long one stays open that is not used, and how long one that is. */
export const AUTH_SESSIONS_MAX: number = 2;
export const AUTH_SESSION_IDLE_MS: number = 30_000;
export const AUTH_SESSION_AGE_MS_MAX: number = 60_000;

/** For so long passwords and files of the connection string are not looked at again, however many questions there are. */
export const AUTH_TARGET_MS: number = 1_000;

/** How long a session rests after each question: two hundred a second are the most that strangers can have us ask. */
export const AUTH_QUESTION_PAUSE_MS: number = 10;

/** After an upstream could not be asked nobody asks it for so long; then known users do not wait for the next answer for so long. */
export const AUTH_RETRY_MS: number = 1_000;
export const AUTH_OUTAGE_MS: number = 10_000;

/** How often, in how long, the answer about one user is asked for again because passwords are wrong. */
export const AUTH_ASK_AGAIN_MAX: number = 5;
export const AUTH_ASK_AGAIN_MS: number = 10_000;

/** Users whose answers are kept, and names of which it is kept that there is no such user. */
export const AUTH_USERS_KEPT_MAX: number = 1_000;
export const AUTH_STRANGERS_KEPT_MAX: number = 200;

/** Plain passwords whose SCRAM secret is kept. */
export const AUTH_DERIVED_MAX: number = 1_000;

/** What is kept of the answer about one user; a secret of PostgreSQL is 133 bytes. */
export const AUTH_ANSWER_BYTES_MAX: number = 16 * 1024;

// --- secret files

/** How often files that hold secrets are looked at. */
export const SECRET_FILES_LOOK_MS: number = 2_000;
