// What the status says about who may come in: logins, refusals, our certificates. Its JSON and its schemas.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import type { CertificateStatus } from '../status/certificate.ts';
import type { RelayStatus, StandbyTotals } from '../status/status.ts';
import {
  counts,
  integer,
  list,
  nullableText,
  nullableTime,
  object,
  oneOf,
  text,
} from './schema-words.ts';

/** A certificate that walcast shows to others. */
export interface CertificateJson {
  /** To standbys, to clients of the HTTP port, or to the upstream. */
  readonly role: CertificateStatus['role'];
  /** Where: the address it is shown on, or the upstream's. */
  readonly address: string;
  /** Of the one in use. */
  readonly expires_at: string | null;
  /** Why newer files are not in use; null when what the files hold is in use. */
  readonly problem: string | null;
}

/** Logins of one method since the start. */
export interface AuthenticationsJson {
  readonly method: string;
  readonly success: number;
  readonly failure: number;
}

/** Who may come in, and who tried. */
export interface AccessJson {
  readonly certificates: readonly CertificateJson[];
  /** A line a method that was used. */
  readonly authentications: readonly AuthenticationsJson[];
  /** Connections refused before they were let in, since the start. */
  readonly rejected: StandbyTotals['rejected'];
  /** Why files with secrets that have changed are not in effect, a sentence each. */
  readonly secret_problems: readonly string[];
}

const certificateFields = object(
  {
    role: oneOf(
      ['server', 'http', 'upstream_client'],
      'To standbys, to clients of the HTTP port, or to the upstream.',
    ),
    address: text('Where: the address it is shown on, or the upstream’s.'),
    expires_at: nullableTime('End of the one in use.'),
    problem: nullableText('Why newer files are not in use; null: what the files hold is.'),
  },
  'A certificate that walcast shows to others.',
);

const authenticationFields = object(
  {
    method: text('As in pg_hba.conf.'),
    success: integer('Those that got in.'),
    failure: integer('The others.'),
  },
  'Logins of one method since the start.',
);

const accessFields = object(
  {
    certificates: list(certificateFields, 'Those in use.'),
    authentications: list(authenticationFields, 'A line a method that was used.'),
    rejected: counts(
      {
        hba: 'No rule lets it in.',
        auth: 'It did not prove who it is.',
        limit: 'There was no room for it.',
        draining: 'walcast was ending.',
        protocol: 'It did not speak the protocol.',
        tls: 'The handshake failed.',
      },
      'Connections refused before they were let in, since the start.',
    ),
    secret_problems: list(
      text('One sentence.'),
      'Why files with secrets that have changed are not in effect.',
    ),
  },
  'Who may come in, and who tried.',
);

/** The schema of {@link AccessJson}, as closed as all others. */
export const access: TUnsafe<AccessJson> = Type.Unsafe<AccessJson>(accessFields);

// The compiler checks that the interface says the same as the schema.
const agreement: Static<typeof accessFields> extends AccessJson ? true : never = true;
void agreement;

/** `timeText` writes milliseconds as the API does; null for what no text can hold. */
export function accessJson(
  { certificates, configuration, standbyTotals }: RelayStatus,
  timeText: (ms: number) => string | null,
): AccessJson {
  return {
    certificates: certificates.map(({ role, address, notAfterMs, problem }) => {
      return { role, address, expires_at: timeText(notAfterMs), problem };
    }),
    authentications: authenticationsJson(standbyTotals.authentications),
    rejected: standbyTotals.rejected,
    secret_problems: configuration.secretProblems,
  };
}

function authenticationsJson(counted: ReadonlyMap<string, number>): AuthenticationsJson[] {
  const methods = new Set([...counted.keys()].map((key) => key.split('|')[0] ?? ''));
  return [...methods].map((method) => ({
    method,
    success: counted.get(`${method}|success`) ?? 0,
    failure: counted.get(`${method}|failure`) ?? 0,
  }));
}
