// From why something was refused to the problem that says so.
import type { FastifyReply } from 'fastify';
import { formatLsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ActionRefusal, WalFileRefusal } from '../status/actions.ts';
import { sendProblem } from './problems.ts';
import type { ProblemCode, ProblemFacts } from './problems.ts';

/** A kind of problem, and what is particular this time. */
export interface Refusal {
  readonly code: ProblemCode;
  readonly facts: ProblemFacts;
}

interface Meaning {
  readonly code: ProblemCode;
  /** Where who refused it has no hint of its own. */
  readonly hint: string;
}

/** What a SQLSTATE is to an HTTP client; what is not here is our own trouble. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  [SQLSTATE.featureNotSupported]: {
    code: 'not-supported',
    hint: 'GET /openapi.json lists what walcast does.',
  },
  [SQLSTATE.invalidName]: {
    code: 'invalid-name',
    hint: 'Names have lower case letters, digits and underscores.',
  },
  [SQLSTATE.nameTooLong]: { code: 'invalid-name', hint: 'A name has 63 characters at most.' },
  [SQLSTATE.undefinedObject]: {
    code: 'no-such-object',
    hint: 'GET /api/v1/slots shows those that are there.',
  },
  [SQLSTATE.duplicateObject]: {
    code: 'already-exists',
    hint: 'Use the one that is there, or another name.',
  },
  [SQLSTATE.configurationLimitExceeded]: {
    code: 'limit-reached',
    hint: 'Drop one that is not needed, or raise the limit.',
  },
  [SQLSTATE.objectNotInPrerequisiteState]: {
    code: 'not-now',
    hint: 'GET /api/v1/status says what state walcast is in.',
  },
  [SQLSTATE.objectInUse]: {
    code: 'in-use',
    hint: 'End who uses it first: GET /api/v1/slots shows its pid.',
  },
  [SQLSTATE.cannotConnectNow]: {
    code: 'starting-up',
    hint: 'GET /readyz says what is waited for.',
  },
};

const OUR_TROUBLE: Meaning = { code: 'failed', hint: 'The log of walcast says more.' };

/** The answer for an action that was refused. */
export function actionRefused({ sqlstate, message, detail, hint }: ActionRefusal): Refusal {
  const meaning = MEANINGS[sqlstate] ?? OUR_TROUBLE;
  return {
    code: meaning.code,
    facts: {
      detail: detail === undefined ? message : `${message}. ${detail}`,
      hint: hint ?? meaning.hint,
      sqlstate,
    },
  };
}

/** The answer for a WAL file that is not given. */
export function walFileRefused(name: string, refusal: WalFileRefusal): Refusal {
  switch (refusal.kind) {
    case 'unknown-name':
      return {
        code: 'invalid-name',
        facts: {
          detail: 'this is no name of a WAL segment or of a timeline history file',
          hint: 'Ask for 24 hexadecimal digits in upper case, of this segment size, or for 8 of them and ".history".',
        },
      };
    case 'absent':
      return {
        code: 'no-such-object',
        facts: {
          detail: `WAL file "${name}" is not stored here`,
          hint: 'GET /api/v1/store says from where to where WAL is stored.',
        },
      };
    case 'incomplete': {
      const end = formatLsn(refusal.availableLsn);
      return {
        code: 'wal-incomplete',
        facts: {
          detail: `WAL segment "${name}" is not complete yet. It is being received, and is on the disk up to ${end}.`,
          hint: 'Stream the end of the WAL (primary_conninfo), or ask again later.',
        },
      };
    }
    case 'damaged':
      return {
        code: 'wal-damaged',
        facts: {
          detail: `WAL file "${name}" is damaged at ${formatLsn(refusal.lsn)}: ${refusal.reason}`,
          hint: 'Fetch it from the upstream server or from an archive.',
          sqlstate: SQLSTATE.dataCorrupted,
        },
      };
    case 'busy':
      return {
        code: 'busy',
        facts: { detail: 'too many WAL files are being fetched', hint: 'Ask again in a moment.' },
      };
    case 'starting':
      return {
        code: 'starting-up',
        facts: {
          detail: 'the database system is starting up',
          hint: 'GET /readyz says what is waited for.',
          sqlstate: SQLSTATE.cannotConnectNow,
        },
      };
  }
}

/** Sends it. */
export function refuse(reply: FastifyReply, { code, facts }: Refusal): FastifyReply {
  return sendProblem(reply, code, facts);
}
