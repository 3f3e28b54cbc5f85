// What the official image of PostgreSQL does before it starts a server, as its documentation states it, with the server that Debian
// has here. (github.com/docker-library/docs/blob/master/postgres/README.md; docker-entrypoint.sh)
import { findProgram } from '../support/requirements.ts';
import { dirname } from 'node:path';
import type { ComposeService } from './compose-file.ts';
import type { ContainerOptions } from './image-container.ts';
import type { ImageTree } from './image-tree.ts';

const USER = '999:999';

/** The users that the image knows. */
export const POSTGRES_PASSWD =
  'root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999::/var/lib/postgresql:/bin/bash\n';

// A command that is not `postgres` is run as it is. Files of /docker-entrypoint-initdb.d that cannot be executed are sourced.
const ENTRYPOINT = `set -eu
[ "$1" = postgres ] || exec "$@"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  export POSTGRES_USER="\${POSTGRES_USER:-postgres}"
  export POSTGRES_DB="\${POSTGRES_DB:-$POSTGRES_USER}"
  mkdir -p "$PGDATA"
  printf '%s\\n' "$POSTGRES_PASSWORD" >/tmp/pwfile
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/pwfile
  rm /tmp/pwfile
  printf "listen_addresses = '*'\\n" >>"$PGDATA/postgresql.conf"
  printf '\\nhost all all all scram-sha-256\\n' >>"$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses='' -p 5432" start
  for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -f "$file" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"`;

/** What takes the place of that image for a service. `image` gives it a root file system. */
export function postgresContainer(
  service: ComposeService,
  image: ImageTree,
): Pick<ContainerOptions, 'image' | 'user' | 'env' | 'workdir' | 'command'> {
  const programs = dirname(findProgram('pg_basebackup') ?? '/usr/bin/psql');
  return {
    // Nothing of walcast is in it.
    image: { lowers: image.lowers.slice(-1), machine: image.machine },
    user: USER,
    env: {
      PATH: `/usr/local/bin:/usr/bin:/bin:${programs}`,
      LANG: 'C.UTF-8',
      HOME: '/var/lib/postgresql',
      PGDATA: '/var/lib/postgresql/18/docker',
      ...service.environment,
    },
    workdir: '/',
    command: ['/bin/bash', '-c', ENTRYPOINT, 'entrypoint', ...service.command],
  };
}
