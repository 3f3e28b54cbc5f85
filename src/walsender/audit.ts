// Who came, from where, how did they prove who they are, and what became of it? The lines that an auditor reads, in
// PostgreSQL's words. (postmaster.c:BackendStartup, auth.c:set_authn_id, postinit.c:PerformAuthentication,
// postgres.c:log_disconnections)

/** What is known when an authentication is over. */
export interface AuthenticationReport {
  /** As the rule names it: `scram-sha-256`, `md5`, `cert`, `trust`. */
  readonly method: string;
  readonly user: string;
  /** The name that was proved: the user's, or a certificate's; null where nothing was (`trust`, a failure). */
  readonly identity: string | null;
  /** Where the rule stands: `file:line`. */
  readonly rule: string;
  /** For our log only, never for the client; null when there is nothing to add. */
  readonly detail: string | null;
}
