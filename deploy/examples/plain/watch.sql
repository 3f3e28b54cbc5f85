-- On the primary: one walsender for the relay, however many standbys there are behind it. The columns are the relay's own positions.
SELECT application_name, state, sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) AS behind
FROM pg_stat_replication WHERE application_name LIKE 'walcast\_%';
-- Its slot: nobody else's WAL is kept here.
SELECT slot_name, active, wal_status, restart_lsn FROM pg_replication_slots WHERE slot_name LIKE 'walcast\_%';
