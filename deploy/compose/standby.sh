# A standby whose data and WAL come through walcast; nothing here knows where the primary is.
set -euo pipefail

# Beside its place until it is whole: a backup that was cut off must never be taken for a server's directory.
if [[ ! -s $PGDATA/PG_VERSION ]]; then
  fresh=$PGDATA.fresh
  rm -rf "$fresh"
  until pg_basebackup --dbname='host=walcast user=replicator application_name=standby_1' --pgdata="$fresh" \
    --slot=standby_1 --write-recovery-conf --wal-method=stream --checkpoint=fast; do
    sleep 2
  done
  mv "$fresh" "$PGDATA"
fi
exec postgres
