// Which certificates and keys does a connection use? The files that a connection string names, read anew for each
// connection, so that they can be replaced while we run. (src/interfaces/libpq/fe-secure-openssl.c:initialize_SSL)
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { errorText, systemErrorCode } from '../base/errors.ts';
import type { ConninfoTls } from '../pg/conninfo.ts';
import { certificateProblem, pemBlocks } from './pem.ts';
import { reasonOf, tlsFailure } from './tls-errors.ts';
import type { TlsFailure } from './tls-errors.ts';

/** Our own certificate and its key. */
export interface ClientCertificate {
  /** PEM: the certificate, then its chain. */
  readonly certificate: string;
  /** PEM, decrypted. */
  readonly key: string;
  /** Milliseconds since the Unix epoch. */
  readonly expiresAtMs: number;
}

/** What the files say. */
export interface TlsFiles {
  /** PEM; whom a server's certificate must be signed by. Null: nobody is asked, every certificate will do. */
  readonly roots: readonly string[] | null;
  /** PEM, one list each. */
  readonly revocationLists: readonly string[];
  readonly client: ClientCertificate | null;
  /** Files that were named and are not there, and what that means, for the log. */
  readonly warnings: readonly string[];
}

/** Where the connection goes, for messages, and which settings name the files. */
export interface TlsFileOptions {
  readonly target: string;
  readonly tls: ConninfoTls;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Where systems keep the roots that they trust: Debian and Alpine, Red Hat, SUSE, BSD and macOS. */
const SYSTEM_ROOTS: readonly string[] = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
  '/usr/local/share/certs/ca-root-nss.crt',
];

/** Largest file that is read, and most files of a directory. */
const FILE_BYTES_MAX = 32 * 1024 * 1024;
const DIRECTORY_FILES_MAX = 1_000;

const DEFAULT_ROOT = '~/.postgresql/root.crt';
const DEFAULT_KEY = '~/.postgresql/postgresql.key';

/** Reads everything. Rejects with {@link TlsFailure} that names the file and what to do. */
export async function readTlsFiles(options: TlsFileOptions): Promise<TlsFiles> {
  const warnings: string[] = [];
  const roots = await readRoots(options, warnings);
  const revocationLists = roots === null ? [] : await readRevocationLists(options);
  const client = await readClient(options, warnings);
  return { roots, revocationLists, client, warnings };
}

async function readRoots(
  options: TlsFileOptions,
  warnings: string[],
): Promise<readonly string[] | null> {
  const { rootCert, mode } = options.tls;
  if (rootCert === 'system') return await readSystemRoots(options);
  if (rootCert !== null && (await exists(rootCert))) {
    const text = await readText(options, rootCert, 'root certificate file');
    const [first] = pemBlocks(text, 'CERTIFICATE');
    const problem = first === undefined ? 'no certificate or crl found' : certificateProblem(first);
    if (problem === null) return [text];
    throw failure(options, 'TLS_ROOT_CERT_UNREADABLE', {
      text: `could not read root certificate file "${rootCert}": ${problem}`,
      hint: 'The file must hold certificates in PEM form.',
    });
  }
  if (mode === 'verify-ca' || mode === 'verify-full') {
    throw failure(options, 'TLS_ROOT_CERT_MISSING', {
      text: `root certificate file "${rootCert ?? DEFAULT_ROOT}" does not exist`,
      hint: "Either provide the file (sslrootcert), use the system's trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification.",
    });
  }
  if (rootCert !== null) {
    warnings.push(
      `root certificate file "${rootCert}" does not exist: the server's certificate is not verified (sslmode=${mode})`,
    );
  }
  return null;
}

/** What of {@link TlsFileOptions} the roots of the system need. */
export type SystemRootOptions = Pick<TlsFileOptions, 'target' | 'environment'>;

/** As OpenSSL's defaults: SSL_CERT_FILE and SSL_CERT_DIR first; the roots that came with the runtime where a system has none. PEM. */
export async function readSystemRoots(options: SystemRootOptions): Promise<readonly string[]> {
  const file = options.environment['SSL_CERT_FILE'] ?? '';
  const directories = (options.environment['SSL_CERT_DIR'] ?? '').split(delimiter);
  const roots: string[] = [];
  for (const directory of directories) {
    if (directory === '' || !(await exists(directory))) continue;
    roots.push(...(await readHashedFiles(options, directory, /^[0-9a-f]{8}\.\d+$/)));
  }
  if (file !== '') roots.push(await readText(options, file, 'root certificate file'));
  if (roots.length > 0) return roots;
  for (const path of SYSTEM_ROOTS) {
    if (await exists(path)) return [await readText(options, path, 'root certificate file')];
  }
  return rootCertificates;
}

/** A list that is named and cannot be read is an error here; libpq passes over it and takes revoked certificates then. */
async function readRevocationLists(options: TlsFileOptions): Promise<readonly string[]> {
  const { crl, crlDirectory } = options.tls;
  const texts: string[] = [];
  if (crl !== null) texts.push(await readText(options, crl, 'certificate revocation list file'));
  if (crlDirectory !== null) {
    texts.push(...(await readHashedFiles(options, crlDirectory, /^[0-9a-f]{8}\.r\d+$/)));
  }
  const lists = texts.flatMap((text) => pemBlocks(text, 'X509 CRL'));
  if (lists.length === 0 && (crl !== null || crlDirectory !== null)) {
    throw failure(options, 'TLS_CRL_UNUSABLE', {
      text: `no certificate revocation list in "${crl ?? crlDirectory}"`,
      hint: 'sslcrl must be a file of lists in PEM form, sslcrldir a directory that "openssl rehash" has gone over; or leave both out.',
    });
  }
  return lists;
}

async function readClient(
  options: TlsFileOptions,
  warnings: string[],
): Promise<ClientCertificate | null> {
  const { cert, key, certMode } = options.tls;
  if (certMode === 'disable' || cert === null) return null;
  if (!(await exists(cert))) {
    warnings.push(`certificate file "${cert}" does not exist: no client certificate is sent`);
    return null;
  }
  const certificate = await readText(options, cert, 'certificate file');
  const [first] = pemBlocks(certificate, 'CERTIFICATE');
  const problem = first === undefined ? 'no start line' : certificateProblem(first);
  if (first === undefined || problem !== null) {
    throw failure(options, 'TLS_CERT_UNREADABLE', {
      text: `could not read certificate file "${cert}": ${problem}`,
      hint: 'sslcert must be a file with a certificate in PEM form, and its chain behind it.',
    });
  }
  const path = key ?? DEFAULT_KEY;
  const privateKey = await readKey(options, path);
  const x509 = new X509Certificate(first);
  if (!x509.checkPrivateKey(privateKey)) {
    throw failure(options, 'TLS_KEY_MISMATCH', {
      text: `could not load private key file "${path}": key values mismatch`,
      hint: `sslkey must be the key that "${cert}" was made for; when both are replaced, replace them together.`,
    });
  }
  return {
    certificate,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    expiresAtMs: Date.parse(x509.validTo),
  };
}

async function readKey(options: TlsFileOptions, path: string): Promise<KeyObject> {
  const info = await stat(path).catch((error: unknown) => {
    throw failure(options, 'TLS_KEY_UNREADABLE', {
      text:
        systemErrorCode(error) === 'ENOENT'
          ? `certificate present, but not private key file "${path}"`
          : `could not stat private key file "${path}": ${errorText(error)}`,
      hint: 'Name the key that belongs to sslcert in sslkey.',
    });
  });
  // Windows has no such permissions; a file of root may be readable for a group, as system-wide certificates are.
  const forbidden = info.uid === 0 ? 0o037 : 0o077;
  if (process.platform !== 'win32' && (info.mode & forbidden) !== 0 && info.isFile()) {
    throw failure(options, 'TLS_KEY_PERMISSIONS', {
      text: `private key file "${path}" has group or world access; file must have permissions u=rw (0600) or less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root`,
      hint: `chmod 0600 "${path}"; for a mounted secret, set its defaultMode.`,
    });
  }
  const bytes = await readBytes(options, path, 'private key file');
  return parseKey(bytes, options, path);
}

/** PEM, else DER of any of the usual kinds; the error is that of the first try. */
function parseKey(bytes: Buffer, options: TlsFileOptions, path: string): KeyObject {
  // An empty passphrase: without one a runtime may ask for it on the terminal.
  const passphrase = options.tls.keyPassword ?? '';
  let problem: unknown = null;
  try {
    return createPrivateKey({ key: bytes, format: 'pem', passphrase });
  } catch (error) {
    problem = error;
  }
  for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
    try {
      return createPrivateKey({ key: bytes, format: 'der', type, passphrase });
    } catch {
      // The next kind.
    }
  }
  throw failure(options, 'TLS_KEY_UNREADABLE', {
    text: `could not load private key file "${path}": ${reasonOf(problem)}`,
    hint: 'sslkey must be a private key in PEM or DER form; sslpassword its passphrase where it is encrypted.',
  });
}

async function readHashedFiles(
  options: Pick<TlsFileOptions, 'target'>,
  directory: string,
  pattern: RegExp,
): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw failure(options, 'TLS_FILE_UNREADABLE', {
      text: `could not open directory "${directory}": ${errorText(error)}`,
      hint: 'Check the path and who may read it.',
    });
  });
  const texts: string[] = [];
  for (const name of names.filter((entry) => pattern.test(entry)).slice(0, DIRECTORY_FILES_MAX)) {
    texts.push(await readText(options, join(directory, name), 'file'));
  }
  return texts;
}

async function readText(
  options: Pick<TlsFileOptions, 'target'>,
  path: string,
  what: string,
): Promise<string> {
  return (await readBytes(options, path, what)).toString('latin1');
}

async function readBytes(
  options: Pick<TlsFileOptions, 'target'>,
  path: string,
  what: string,
): Promise<Buffer> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('it is not a regular file');
    if (info.size > FILE_BYTES_MAX) throw new Error(`it is larger than ${FILE_BYTES_MAX} bytes`);
    return await readFile(path);
  } catch (error) {
    throw failure(options, 'TLS_FILE_UNREADABLE', {
      text: `could not read ${what} "${path}": ${errorText(error)}`,
      hint: 'Check the path in upstream.conninfo, and that the user walcast runs as may read the file.',
    });
  }
}

/** False for a file that is not there; what is wrong otherwise shows when it is read. */
async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    return code !== 'ENOENT' && code !== 'ENOTDIR';
  }
}

function failure(
  options: Pick<TlsFileOptions, 'target'>,
  code: string,
  words: { text: string; hint: string },
): TlsFailure {
  return tlsFailure(options, words.text, { code, hint: words.hint });
}
