-- On the primary, once: psql -v password=… -f primary.sql
SET password_encryption = 'scram-sha-256';
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
-- How much WAL a relay that is away may hold back here.
ALTER SYSTEM SET max_slot_wal_keep_size = '8GB';
SELECT pg_reload_conf();
