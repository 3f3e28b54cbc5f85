-- On the primary, once the relay streams: commits wait until it has them on its disk. With one relay they wait while it is away.
ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (walcast_0)';
SELECT pg_reload_conf();
