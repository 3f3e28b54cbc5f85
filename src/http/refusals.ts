// From why something was refused to the status code and the JSON that say so.
import type { FastifyReply } from 'fastify';
import { formatLsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ActionRefusal, WalFileRefusal } from '../status/actions.ts';
import type { ErrorJson } from './api-types.ts';

/** A status code and its body. */
export interface Refusal {
  readonly code: number;
  readonly body: ErrorJson;
}

/** What an HTTP client can do about a SQLSTATE; what is not here is our own trouble. */
const CODES: Readonly<Record<string, number>> = {
  [SQLSTATE.featureNotSupported]: 501,
  [SQLSTATE.invalidName]: 400,
  [SQLSTATE.nameTooLong]: 400,
  [SQLSTATE.undefinedObject]: 404,
  [SQLSTATE.duplicateObject]: 409,
  [SQLSTATE.configurationLimitExceeded]: 409,
  [SQLSTATE.objectNotInPrerequisiteState]: 409,
  [SQLSTATE.objectInUse]: 409,
  [SQLSTATE.cannotConnectNow]: 503,
};

/** The answer for an action that was refused. */
export function actionRefused(refusal: ActionRefusal): Refusal {
  const { sqlstate, message, detail, hint } = refusal;
  return {
    code: CODES[sqlstate] ?? 500,
    body: {
      error: message,
      ...(detail === undefined ? {} : { detail }),
      ...(hint === undefined ? {} : { hint }),
      sqlstate,
    },
  };
}

/** The answer for a WAL file that is not given. */
export function walFileRefused(name: string, refusal: WalFileRefusal): Refusal {
  switch (refusal.kind) {
    case 'unknown-name':
      return {
        code: 400,
        body: {
          error: 'this is no name of a WAL segment or of a timeline history file',
          hint: 'Ask for 24 hexadecimal digits in upper case, of this segment size, or for 8 of them and ".history".',
        },
      };
    case 'absent':
      return {
        code: 404,
        body: {
          error: `WAL file "${name}" is not stored here`,
          hint: 'GET /api/v1/store says from where to where WAL is stored.',
        },
      };
    case 'incomplete':
      return {
        code: 409,
        body: {
          error: `WAL segment "${name}" is not complete yet`,
          detail: `It is being received, and is on the disk up to ${formatLsn(refusal.availableLsn)}.`,
          hint: 'Stream the end of the WAL (primary_conninfo), or ask again later.',
        },
      };
    case 'damaged':
      return {
        code: 500,
        body: {
          error: `WAL file "${name}" is damaged at ${formatLsn(refusal.lsn)}: ${refusal.reason}`,
          hint: 'Fetch it from the upstream server or from an archive.',
          sqlstate: SQLSTATE.dataCorrupted,
        },
      };
    case 'busy':
      return {
        code: 503,
        body: { error: 'too many WAL files are being fetched', hint: 'Ask again in a moment.' },
      };
    case 'starting':
      return {
        code: 503,
        body: {
          error: 'the database system is starting up',
          hint: 'GET /readyz says what is waited for.',
          sqlstate: SQLSTATE.cannotConnectNow,
        },
      };
  }
}

/** Sends it. What may be better in a moment says so. */
export function refuse(reply: FastifyReply, { code, body }: Refusal): FastifyReply {
  if (code === 503) void reply.header('retry-after', '1');
  return reply.code(code).send(body);
}
