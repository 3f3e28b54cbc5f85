// SHOW: settings of the session, of walcast, and of the server it stands for, in that order. (guc_funcs.c:GetPGVariable)
import { SQLSTATE } from '../../pg/sqlstate.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  textColumn,
} from '../../wire/backend-messages.ts';
import { formatMilliseconds, settingSpelling } from '../session-settings.ts';
import { done, failed } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

/** Answers `SHOW name` and `SHOW ALL`; 42704 for a name nobody knows. */
export function show(givenName: string, context: CommandContext): CommandOutcome {
  const name = givenName.toLowerCase();
  if (name === 'all') return showAll(context);
  const value = knownSettings(context).get(name);
  if (value === undefined) {
    return failed({
      sqlstate: SQLSTATE.undefinedObject,
      message: `unrecognized configuration parameter "${givenName}"`,
    });
  }
  return done(
    encodeRowDescription([textColumn(settingSpelling(name))]),
    encodeDataRow([value]),
    encodeCommandComplete('SHOW'),
  );
}

function showAll(context: CommandContext): CommandOutcome {
  const rows = [...knownSettings(context)]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => encodeDataRow([settingSpelling(name), value, '']));
  return done(
    encodeRowDescription([textColumn('name'), textColumn('setting'), textColumn('description')]),
    ...rows,
    encodeCommandComplete('SHOW'),
  );
}

/** By lower-case name. */
function knownSettings(context: CommandContext): ReadonlyMap<string, string> {
  const { identity, settings } = context;
  const known = new Map<string, string>();
  for (const [name, value] of identity.parameters) known.set(name.toLowerCase(), value);
  for (const [name, value] of identity.settings) known.set(name, value);
  for (const [name, value] of settings.values) known.set(name, value);
  known.set('application_name', settings.applicationName);
  known.set('client_encoding', settings.values.get('client_encoding') ?? 'SQL_ASCII');
  known.set('server_encoding', 'SQL_ASCII');
  known.set('is_superuser', 'off');
  known.set('session_authorization', context.user);
  for (const [name, value] of context.ownSettings) known.set(name, value);
  known.set('max_wal_senders', String(context.maxWalSenders));
  known.set('wal_sender_timeout', formatMilliseconds(context.walSenderTimeoutMs));
  known.set('walcast_version', context.version);
  return known;
}
