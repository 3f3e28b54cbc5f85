# Run once, by the image of PostgreSQL, when the primary's data directory is made: who replicates, and how walcast asks for secrets.
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password REPLICATION_PASSWORD
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';

-- walcast asks about one user at a time, so that a password is kept and changed here alone: docs/auth-query.md.
CREATE FUNCTION walcast_auth(wanted text)
  RETURNS TABLE (name text, secret text, valid_until timestamptz, may_replicate boolean)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT rolname::text, rolpassword, rolvaliduntil, rolreplication OR rolsuper
    FROM pg_authid WHERE rolname = wanted AND rolcanlogin
  $$;
REVOKE ALL ON FUNCTION walcast_auth(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walcast_auth(text) TO replicator;
SQL

# The image lets every user into every database with a password; replication is none of them.
echo 'host replication replicator samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
