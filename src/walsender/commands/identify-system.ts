// IDENTIFY_SYSTEM: which cluster, which timeline, how far. (walsender.c:IdentifySystem)
import { formatLsn } from '../../pg/lsn.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  textColumn,
  TYPE_OID,
} from '../../wire/backend-messages.ts';
import { done } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

/** The timeline is never ahead of the history files and the WAL that can be served. */
export function identifySystem(context: CommandContext): CommandOutcome {
  const { identity, feed } = context;
  const { facts } = identity;
  const typeOid = facts.identifyTimelineTypeOid;
  const columns = [
    textColumn('systemid'),
    { name: 'timeline', typeOid, typeLength: typeOid === TYPE_OID.int4 ? 4 : 8, typeModifier: -1 },
    textColumn('xlogpos'),
    textColumn('dbname'),
  ];
  const row = [
    identity.systemIdentifier,
    String(feed.timeline()),
    formatLsn(feed.sendableLsn(), facts.padsLsnText),
    null,
  ];
  return done(
    encodeRowDescription(columns),
    encodeDataRow(row),
    encodeCommandComplete('IDENTIFY_SYSTEM'),
  );
}
