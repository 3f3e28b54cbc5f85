// Which walcast this is: version, git revision, Node.js, and the PostgreSQL majors it speaks.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SUPPORTED_MAJORS, versionFacts } from '../pg/server-version.ts';

/** What `--version`, `/api/v1/version` and the metric `build_info` say. */
export interface BuildInfo {
  readonly version: string;
  /** Abbreviated commit; null when it is not known (an installed package without WALCAST_REVISION). */
  readonly revision: string | null;
  readonly nodeVersion: string;
  /** Majors that are run against, lowest first. */
  readonly postgresqlMajors: readonly number[];
  /** Majors that were read about only; they are followed, with a warning. */
  readonly unverifiedMajors: readonly number[];
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const REVISION = /^[0-9a-f]{7,64}$/;
const REVISION_LENGTH = 12;

/** The answer for the process's own environment: a running program does not change. */
let ownBuild: BuildInfo | null = null;

/** What is known about the running program: package.json, and WALCAST_REVISION or the clone's HEAD. Read once. */
export function readBuildInfo(env?: Readonly<Record<string, string | undefined>>): BuildInfo {
  if (env !== undefined) return readFor(env);
  ownBuild ??= readFor(process.env);
  return ownBuild;
}

function readFor(env: Readonly<Record<string, string | undefined>>): BuildInfo {
  return {
    version: packageVersion(),
    revision: revisionOf(env['WALCAST_REVISION']) ?? revisionOfClone(),
    nodeVersion: process.versions.node,
    postgresqlMajors: SUPPORTED_MAJORS.filter((major) => versionFacts(major).isVerified),
    unverifiedMajors: SUPPORTED_MAJORS.filter((major) => !versionFacts(major).isVerified),
  };
}

function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8'));
  const isManifest = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return isManifest && typeof manifest.version === 'string' ? manifest.version : 'unknown';
}

function revisionOfClone(): string | null {
  const head = readGitFile('HEAD');
  if (head === null) return null;
  const reference = /^ref: (refs\/[\w./-]+)$/.exec(head)?.[1];
  if (reference === undefined) return revisionOf(head);
  const loose = readGitFile(reference);
  if (loose !== null) return revisionOf(loose);
  const packed = readGitFile('packed-refs')
    ?.split('\n')
    .find((line) => line.endsWith(` ${reference}`));
  return revisionOf(packed?.split(' ')[0]);
}

function readGitFile(name: string): string | null {
  try {
    return readFileSync(`${ROOT}.git/${name}`, 'utf8').trim();
  } catch {
    return null;
  }
}

function revisionOf(text: string | undefined): string | null {
  return text !== undefined && REVISION.test(text) ? text.slice(0, REVISION_LENGTH) : null;
}
