// Who else may read a file that holds a secret? PostgreSQL's rule for private keys.
// (src/backend/libpq/be-secure-common.c:check_ssl_key_file_permissions)

/** What `fstat` says of an open file. */
export interface SecretFileFacts {
  readonly mode: number;
  readonly uid: number;
  isFile(): boolean;
}

const ROOT = 0;

/** Write and execute for the group, anything for others. */
const REFUSED_OF_ROOT = 0o037;

/** Anything for group and others. */
const REFUSED_OF_OURS = 0o077;

/**
 * Why the secret in such a file is none any more, to be put behind the name of the file; null for a file that only we can read. The
 * group may read a file of root, as a mounted secret is. What is no plain file (a pipe, a terminal) is whoever's who opened it. `ownUid`: user id of this
 * process; null where the system has none.
 */
export function secretFileProblem(file: SecretFileFacts, ownUid: number | null): string | null {
  if (ownUid === null || !file.isFile()) return null;
  if (file.uid !== ownUid && file.uid !== ROOT) {
    return 'must be owned by the user walcast runs as, or by root';
  }
  if ((file.mode & (file.uid === ROOT ? REFUSED_OF_ROOT : REFUSED_OF_OURS)) === 0) return null;
  return (
    'has group or world access; a file that holds a secret must have permissions u=rw (0600) or less if owned by the user ' +
    'walcast runs as, or permissions u=rw,g=r (0640) or less if owned by root'
  );
}
