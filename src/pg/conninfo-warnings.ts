// Which options of a connection string are taken and then do nothing, or less than they say?
import type { ConninfoOptions } from './conninfo-options.ts';

/** Options that are left out of account, and why. */
const WITHOUT_EFFECT: ReadonlyMap<string, string> = new Map([
  ['krbsrvname', 'walcast does not speak GSSAPI'],
  ['gsslib', 'walcast does not speak GSSAPI'],
  ['gssdelegation', 'walcast does not speak GSSAPI'],
  ['oauth_issuer', 'walcast does not speak OAuth'],
  ['oauth_client_id', 'walcast does not speak OAuth'],
  ['oauth_client_secret', 'walcast does not speak OAuth'],
  ['oauth_scope', 'walcast does not speak OAuth'],
  ['client_encoding', 'WAL is not converted'],
  ['replication', 'walcast sets it itself'],
  ['sslkeylogfile', 'walcast writes no keys of TLS sessions'],
  ['keepalives_interval', 'Node.js can only set keepalives_idle'],
  ['keepalives_count', 'Node.js can only set keepalives_idle'],
  [
    'tcp_user_timeout',
    'Node.js cannot set it; wal_receiver_timeout ends a session that went silent',
  ],
]);

/** One sentence for each option that was `given` and does not do what it says. Values are not shown. */
export function conninfoWarnings(given: ConninfoOptions): readonly string[] {
  const warnings = [...given.keys()].flatMap((keyword) => {
    const why = WITHOUT_EFFECT.get(keyword);
    return why === undefined ? [] : [`connection option ${keyword} has no effect: ${why}`];
  });
  if (given.get('sslcompression')?.startsWith('1') === true) {
    warnings.push('connection option sslcompression has no effect: TLS is not compressed');
  }
  const minimum = given.get('ssl_min_protocol_version')?.toLowerCase();
  if (minimum !== undefined && minimum !== 'tlsv1.2' && minimum !== 'tlsv1.3') {
    warnings.push(
      'connection option ssl_min_protocol_version is taken as TLSv1.2, the oldest that walcast speaks',
    );
  }
  return warnings;
}
