// TIMELINE_HISTORY: a history file, byte for byte. (walsender.c:SendTimeLineHistory)
import { SQLSTATE } from '../../pg/sqlstate.ts';
import { historyFileName } from '../../pg/timeline.ts';
import type { TimelineId } from '../../pg/timeline.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  TYPE_OID,
} from '../../wire/backend-messages.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

/** The row description is sent before the file is looked for, so it precedes the error too. */
export async function timelineHistory(
  timeline: TimelineId,
  context: CommandContext,
): Promise<CommandOutcome> {
  const { historyContentTypeOid, historyTypeModifier } = context.identity.facts;
  const description = encodeRowDescription([
    column('filename', TYPE_OID.text, historyTypeModifier),
    column('content', historyContentTypeOid, historyTypeModifier),
  ]);
  const name = historyFileName(timeline);
  const content = await context.feed.historyFile(timeline);
  if (content === null) {
    return {
      kind: 'error',
      frames: [description],
      error: {
        sqlstate: SQLSTATE.undefinedFile,
        message: `could not open file "pg_wal/${name}": No such file or directory`,
      },
    };
  }
  const row = encodeDataRow([name, content]);
  return {
    kind: 'done',
    frames: [description, row, encodeCommandComplete('TIMELINE_HISTORY')],
  };
}

function column(
  name: string,
  typeOid: number,
  typeModifier: number,
): { name: string; typeOid: number; typeLength: number; typeModifier: number } {
  return { name, typeOid, typeLength: -1, typeModifier };
}
