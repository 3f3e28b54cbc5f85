// Which certificate is presented to those who connect now? The last good one that the files held: they are looked at again
// and again, because they are renewed while we run.
import { createSecureContext } from 'node:tls';
import type { Clock, Timer } from '../base/clock.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { readServerTls, serverTlsMark } from './server-tls-files.ts';
import type { ServerCredentials, ServerTlsPaths } from './server-tls-files.ts';

/** What the files are read with. */
export interface ServerCertificatesOptions {
  readonly paths: ServerTlsPaths;
  /** How often the files are looked at. */
  readonly pollMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Files that change all the time are read as they are. */
const READ_ATTEMPTS_MAX = 3;

/** The certificate, its key and whom we believe, of one address we listen on. */
export class ServerCertificates {
  readonly #options: ServerCertificatesOptions;
  readonly #listeners = new Set<() => void>();
  #current: ServerCredentials;
  /** Of the files as they were when they were read last, good or bad. */
  #mark: string;
  #problem: string | null = null;
  /** The one of whose dates it has been said. */
  #warned: ServerCredentials | null = null;
  #timer: Timer | null = null;
  #isClosed = false;
  /** One look at a time. */
  #looking: Promise<void> | null = null;

  private constructor(options: ServerCertificatesOptions, first: Reading) {
    this.#options = options;
    this.#current = first.credentials;
    this.#mark = first.mark;
    this.#schedule();
  }

  /** Rejects with OperationalError when the files cannot be used. The result looks at them until it is closed. */
  static async open(options: ServerCertificatesOptions): Promise<ServerCertificates> {
    const first = await read(options.paths);
    const certificates = new ServerCertificates(options, first);
    certificates.#warnOfDates();
    return certificates;
  }

  get hasClientAuthorities(): boolean {
    return this.#options.paths.ca !== null;
  }

  /** What is presented to those who connect now. */
  current(): ServerCredentials {
    return this.#current;
  }

  /** Why what the files hold is not in use; null when it is. */
  get problem(): string | null {
    return this.#problem;
  }

  /** `listener` is called when another certificate is current; what is returned ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Looks at the files now. Never rejects: what is wrong is in `problem`, and in the log. */
  refresh(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** The files are not looked at any more. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #schedule(): void {
    const { clock, pollMs } = this.#options;
    this.#timer = clock.setTimer(pollMs, () => {
      void this.refresh().then(() => {
        if (!this.#isClosed) this.#schedule();
      });
    });
  }

  async #look(): Promise<void> {
    const { paths } = this.#options;
    this.#warnOfDates();
    const mark = await serverTlsMark(paths);
    // What could not be used is tried again: its other half may be on the way.
    if (mark === this.#mark && this.#problem === null) return;
    try {
      const next = await read(paths);
      if (!this.#isClosed) this.#take(next);
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      this.#onBroken(error);
    }
  }

  #take({ credentials, mark }: Reading): void {
    this.#mark = mark;
    const wasBroken = this.#problem !== null;
    this.#problem = null;
    if (isSame(credentials, this.#current)) {
      if (wasBroken) this.#options.log.info('the certificate in use is what the files hold again');
      return;
    }
    this.#current = credentials;
    this.#options.log.info('a new certificate is in use; sessions keep the one they began with', {
      certificate: this.#options.paths.cert,
      not_after: new Date(credentials.notAfterMs).toISOString(),
    });
    this.#warnOfDates();
    for (const listener of this.#listeners) listener();
  }

  #onBroken(error: OperationalError): void {
    const text = error.message;
    if (text === this.#problem) return;
    this.#problem = text;
    this.#options.log.error(
      'the new certificate cannot be used: the one before stays in use, and the files are tried again',
      {
        detail: text,
        hint: error.hint,
        not_after: new Date(this.#current.notAfterMs).toISOString(),
      },
    );
  }

  /** Said once of each. PostgreSQL uses it all the same, and so do we: a client may not look. */
  #warnOfDates(): void {
    const { notBeforeMs, notAfterMs } = this.#current;
    const nowMs = this.#options.clock.wallMs();
    if (this.#warned === this.#current || (nowMs >= notBeforeMs && nowMs < notAfterMs)) return;
    this.#warned = this.#current;
    const what = nowMs < notBeforeMs ? 'is not valid yet' : 'has expired';
    this.#options.log.warn(`the certificate that is presented to clients ${what}`, {
      certificate: this.#options.paths.cert,
      not_after: new Date(notAfterMs).toISOString(),
    });
  }
}

/** Reads the files as {@link ServerCertificates.open} does, once. Rejects with OperationalError when they cannot be used. */
export async function readServerCertificates(paths: ServerTlsPaths): Promise<ServerCredentials> {
  return (await read(paths)).credentials;
}

interface Reading {
  readonly credentials: ServerCredentials;
  readonly mark: string;
}

/** Files that are being replaced are read again: an old certificate and a new key are nobody's mistake. */
async function read(paths: ServerTlsPaths): Promise<Reading> {
  for (let attempt = 1; ; attempt += 1) {
    const mark = await serverTlsMark(paths);
    const reading = await attemptRead(paths, mark);
    const isSteady = (await serverTlsMark(paths)) === mark;
    if (!isSteady && attempt < READ_ATTEMPTS_MAX) continue;
    if (reading instanceof OperationalError) throw reading;
    return reading;
  }
}

async function attemptRead(
  paths: ServerTlsPaths,
  mark: string,
): Promise<Reading | OperationalError> {
  try {
    const credentials = await readServerTls(paths);
    requireUsable(credentials, paths);
    return { credentials, mark };
  } catch (error) {
    if (error instanceof OperationalError) return error;
    throw error;
  }
}

/** What OpenSSL itself refuses, such as a key that is too short for its security level, is refused now. */
function requireUsable(credentials: ServerCredentials, paths: ServerTlsPaths): void {
  const { cert, key, ca, crl } = credentials;
  try {
    createSecureContext({
      cert,
      key,
      ...(ca === null ? {} : { ca }),
      ...(crl.length === 0 ? {} : { crl: [...crl] }),
    });
  } catch (error) {
    throw new OperationalError(
      'TLS_FILE_UNREADABLE',
      `could not create SSL context: ${errorText(error)}`,
      { hint: `Check "${paths.cert}" and the files beside it.`, cause: error },
    );
  }
}

function isSame(one: ServerCredentials, other: ServerCredentials): boolean {
  return (
    one.cert === other.cert &&
    one.key === other.key &&
    one.ca === other.ca &&
    one.crl.join('') === other.crl.join('')
  );
}
