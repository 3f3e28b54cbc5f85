// Which certificate and key do we serve TLS with, and whom do we believe about clients? The files that the configuration
// names, read together and checked before they are used. (be-secure-openssl.c:be_tls_init, be-secure-common.c)
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { OperationalError, errorText, systemErrorCode } from '../base/errors.ts';
import { secretFileProblem } from '../base/secret-mode.ts';
import { ownEndPointBinding } from '../wire/server-certificate.ts';
import { certificateProblem, pemBlocks } from './pem.ts';
import { reasonOf } from './tls-errors.ts';

/** Paths of PEM files. */
export interface ServerTlsPaths {
  readonly cert: string;
  readonly key: string;
  /** Authorities of client certificates. */
  readonly ca: string | null;
  /** Revocation lists for client certificates. */
  readonly crl: string | null;
}

/** What the files hold, checked: certificate and key belong together. */
export interface ServerCredentials {
  /** PEM: the certificate, then its chain. */
  readonly cert: string;
  /** PEM, not encrypted. */
  readonly key: string;
  /** PEM. */
  readonly ca: string | null;
  /** PEM, one list each. */
  readonly crl: readonly string[];
  /** DER of the certificate that is presented. */
  readonly der: Uint8Array;
  /** What binds a login to it: `tls-server-end-point`; null when its signature has no one hash. */
  readonly endPoint: Uint8Array | null;
  /** Its validity, milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const FILE_BYTES_MAX = 32 * 1024 * 1024;

/**
 * Reads and checks them all. Rejects with OperationalError `TLS_FILE_UNREADABLE`, `TLS_CERT_UNREADABLE`,
 * `TLS_KEY_UNREADABLE`, `TLS_KEY_PERMISSIONS`, `TLS_KEY_MISMATCH`, in PostgreSQL's words, that names the file.
 */
export async function readServerTls(paths: ServerTlsPaths): Promise<ServerCredentials> {
  const cert = await readText(paths.cert, 'server certificate file');
  const certificate = firstCertificate(paths.cert, cert);
  const key = await readPrivateKey(paths.key);
  if (!certificate.checkPrivateKey(key)) {
    throw failure('TLS_KEY_MISMATCH', 'check of private key failed: key values mismatch', {
      hint: `"${paths.key}" must hold the key that "${paths.cert}" was made for; when both are replaced, replace them together.`,
    });
  }
  return {
    cert,
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ca: paths.ca === null ? null : await readAuthorities(paths.ca),
    crl: paths.crl === null ? [] : await readRevocationLists(paths.crl),
    der: certificate.raw,
    endPoint: endPointOf(paths.cert, certificate),
    ...datesOf(paths.cert, certificate),
  };
}

/**
 * What tells that one of the files has been replaced, looked at through every symbolic link: Kubernetes replaces a mounted
 * secret by pointing one link elsewhere. A file that is not there has a mark, too.
 */
export async function serverTlsMark(paths: ServerTlsPaths): Promise<string> {
  const marks: string[] = [];
  for (const path of [paths.cert, paths.key, paths.ca, paths.crl]) {
    if (path !== null) marks.push(await fileMark(path));
  }
  return marks.join('|');
}

async function fileMark(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch (error) {
    return systemErrorCode(error) ?? 'unreadable';
  }
}

function firstCertificate(path: string, text: string): X509Certificate {
  const [first] = pemBlocks(text, 'CERTIFICATE');
  const problem = first === undefined ? 'no start line' : certificateProblem(first);
  if (first !== undefined && problem === null) return new X509Certificate(first);
  throw certificateFailure(path, problem);
}

/** Read with the rest: what cannot be read shows now, not when somebody logs in. */
function endPointOf(path: string, { raw }: X509Certificate): Uint8Array | null {
  try {
    return ownEndPointBinding(raw);
  } catch (error) {
    throw certificateFailure(path, errorText(error));
  }
}

function datesOf(
  path: string,
  { validFrom, validTo }: X509Certificate,
): Pick<ServerCredentials, 'notBeforeMs' | 'notAfterMs'> {
  const notBeforeMs = Date.parse(validFrom);
  const notAfterMs = Date.parse(validTo);
  if (!Number.isNaN(notBeforeMs) && !Number.isNaN(notAfterMs)) return { notBeforeMs, notAfterMs };
  throw certificateFailure(path, 'its validity is no date');
}

function certificateFailure(path: string, problem: string | null): OperationalError {
  const hint = 'The file must hold the certificate in PEM form, and its chain behind it.';
  const text = `could not load server certificate file "${path}": ${problem}`;
  return failure('TLS_CERT_UNREADABLE', text, { hint });
}

/** (check_ssl_key_file_permissions) */
async function readPrivateKey(path: string): Promise<KeyObject> {
  const info = await stat(path).catch((error: unknown) => {
    throw failure(
      'TLS_KEY_UNREADABLE',
      `could not access private key file "${path}": ${errorText(error)}`,
      { hint: 'Name the key that belongs to the certificate in tls.key.' },
    );
  });
  if (!info.isFile()) {
    throw failure('TLS_KEY_UNREADABLE', `private key file "${path}" is not a regular file`, {
      hint: 'Name the file with the key in tls.key.',
    });
  }
  const problem = secretFileProblem(info, process.geteuid?.() ?? null);
  if (problem !== null) {
    throw failure('TLS_KEY_PERMISSIONS', `private key file "${path}" ${problem}`, {
      hint: `chmod 0600 "${path}"; for a mounted secret, set its defaultMode to 0440.`,
    });
  }
  return parseKey(path, await readText(path, 'private key file'));
}

function parseKey(path: string, text: string): KeyObject {
  try {
    // An empty passphrase: without one a runtime may ask for it on the terminal.
    return createPrivateKey({ key: text, format: 'pem', passphrase: '' });
  } catch (error) {
    throw failure(
      'TLS_KEY_UNREADABLE',
      `could not load private key file "${path}": ${reasonOf(error)}`,
      { hint: 'tls.key must be a private key in PEM form without a passphrase.' },
    );
  }
}

async function readAuthorities(path: string): Promise<string> {
  const text = await readText(path, 'root certificate file');
  const blocks = pemBlocks(text, 'CERTIFICATE');
  const problem = blocks.length === 0 ? 'no certificate or crl found' : firstProblem(blocks);
  if (problem === null) return blocks.join('');
  throw failure(
    'TLS_CERT_UNREADABLE',
    `could not load root certificate file "${path}": ${problem}`,
    {
      hint: 'tls.ca must hold the certificates, in PEM form, of the authorities that sign those of clients.',
    },
  );
}

function firstProblem(blocks: readonly string[]): string | null {
  for (const block of blocks) {
    const problem = certificateProblem(block);
    if (problem !== null) return problem;
  }
  return null;
}

async function readRevocationLists(path: string): Promise<readonly string[]> {
  const lists = pemBlocks(await readText(path, 'SSL certificate revocation list file'), 'X509 CRL');
  if (lists.length > 0) return lists;
  throw failure(
    'TLS_FILE_UNREADABLE',
    `could not load SSL certificate revocation list file "${path}": no certificate or crl found`,
    { hint: 'tls.crl must hold revocation lists in PEM form, one for each authority in tls.ca.' },
  );
}

async function readText(path: string, what: string): Promise<string> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('it is not a regular file');
    if (info.size > FILE_BYTES_MAX) throw new Error(`it is larger than ${FILE_BYTES_MAX} bytes`);
    return (await readFile(path)).toString('latin1');
  } catch (error) {
    throw failure('TLS_FILE_UNREADABLE', `could not load ${what} "${path}": ${errorText(error)}`, {
      hint: 'Check the path, and that the user walcast runs as may read the file.',
    });
  }
}

function failure(code: string, text: string, { hint }: { hint: string }): OperationalError {
  return new OperationalError(code, text, { hint });
}
