// What a test needs from the machine, and what happens when it is not there: the test is skipped and says why; with
// WALCAST_TEST_REQUIRE=all it fails instead, so that a complete machine cannot quietly test less.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { describe, it } from 'vitest';

/** Majors that the suites run against: WALCAST_TEST_MAJORS, comma separated; default oldest, middle and newest. */
export const TEST_MAJORS: readonly number[] = parseMajors(
  process.env['WALCAST_TEST_MAJORS'] ?? '13,15,18',
);

/** The newest of {@link TEST_MAJORS}: for what does not depend on the major. */
export const NEWEST_MAJOR: number = Math.max(...TEST_MAJORS);

/** The oldest and the newest of them: for what is slow and depends on the major little. */
export const EDGE_MAJORS: readonly number[] = [
  ...new Set([Math.min(...TEST_MAJORS), Math.max(...TEST_MAJORS)]),
];

/** True when something absent is a failure. */
export const MUST_HAVE_ALL: boolean = process.env['WALCAST_TEST_REQUIRE'] === 'all';

/** True where faults are injected at length (`.ci/run`); elsewhere a few of each kind have to do. */
export const FULL_FAULTS: boolean = process.env['WALCAST_TEST_FAULTS'] === 'full';

/** Folders of Debian's clients, newest first; their wrappers in /usr/bin choose another version than we mean. */
const CLIENT_DIRECTORIES = [18, 17, 16, 15, 14, 13].map(
  (major) => `/usr/lib/postgresql/${major}/bin`,
);

/** Path of a program; null when it is absent. PostgreSQL's own clients are found where Debian puts them, too. */
export function findProgram(name: string): string | null {
  const fromPath = (process.env['PATH'] ?? '').split(delimiter).filter((path) => path !== '');
  for (const directory of [...CLIENT_DIRECTORIES, ...fromPath]) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here.
    }
  }
  return null;
}

/** Why a need is not met: `null` when it is. A need is a program's name, or `postgres-<major>`. */
export function missing(need: string): string | null {
  const major = /^postgres-(\d+)$/.exec(need)?.[1];
  if (major !== undefined) {
    return hasServer(Number(major)) ? null : `PostgreSQL ${major} is not installed (run npm ci)`;
  }
  if (findProgram(need) === null) return `${need} is not installed`;
  return need === 'kubectl' ? oldKubectl() : null;
}

/** Components and `labels` came with kustomize 4.1; Debian's package of Kubernetes' client has 2. */
function oldKubectl(): string | null {
  const { stdout } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' });
  const major = Number(/Kustomize Version: v(\d+)/.exec(stdout)?.[1] ?? 0);
  return major >= 5 ? null : 'kubectl is older than 1.27 (its kustomize older than 5)';
}

/**
 * `describe` and `it` for tests that need something: `requires('pg_basebackup').it('…', …)`. When a need is not met the
 * reason is printed and the tests are skipped, or fail where everything must be there.
 */
export function requires(...needs: readonly string[]): {
  readonly describe: typeof describe | typeof describe.skip;
  readonly it: typeof it | typeof it.skip;
} {
  const reasons = needs.map(missing).filter((reason) => reason !== null);
  if (reasons.length === 0) return { describe, it };
  const reason = reasons.join('; ');
  if (MUST_HAVE_ALL) throw new Error(`WALCAST_TEST_REQUIRE=all, but ${reason}`);
  process.stderr.write(`skipped: ${reason}\n`);
  return { describe: describe.skip, it: it.skip };
}

/** `it` for a test that has a meaning only under a condition: elsewhere there is none, and nothing is skipped. */
export function itWhen(
  condition: boolean,
): (name: string, run: (context: { skip(note?: string): never }) => Promise<void>) => void {
  return condition ? (name, run) => it(name, run) : () => {};
}

/** The majors of {@link TEST_MAJORS} whose server is installed; the others are reported like any unmet need. */
export function installedMajors(): number[] {
  return TEST_MAJORS.filter((major) => {
    const reason = missing(`postgres-${major}`);
    if (reason === null) return true;
    if (MUST_HAVE_ALL) throw new Error(`WALCAST_TEST_REQUIRE=all, but ${reason}`);
    process.stderr.write(`skipped for PostgreSQL ${major}: ${reason}\n`);
    return false;
  });
}

/**
 * Of the {@link installedMajors} the oldest and the newest, and all of them where faults are injected at length: for what takes
 * long and differs between majors in the server's answers only.
 */
export function spannedMajors(): number[] {
  return installedMajors().filter((major) => FULL_FAULTS || EDGE_MAJORS.includes(major));
}

/** Of the {@link installedMajors} the newest, and all of them where faults are injected at length: for what takes long, too. */
export function newestMajors(): number[] {
  return installedMajors().filter((major) => FULL_FAULTS || major === NEWEST_MAJOR);
}

/** The same, of {@link spannedMajors} at most the oldest and the newest, for what takes longest. */
export function newestOfEdges(): number[] {
  return installedMajors().filter((major) =>
    (FULL_FAULTS ? EDGE_MAJORS : [NEWEST_MAJOR]).includes(major),
  );
}

/** The major of a client program, 0 where it is absent. It refuses servers that are newer. */
export function clientMajor(program: string): number {
  const path = findProgram(program);
  if (path === null) return 0;
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return Number(/\(PostgreSQL\) (\d+)/.exec(stdout)?.[1] ?? 0);
}

function hasServer(major: number): boolean {
  try {
    createRequire(import.meta.url).resolve(`pg${major}-${process.platform}-${process.arch}`);
    return true;
  } catch {
    return findProgramIn(`/usr/lib/postgresql/${major}/bin`, 'postgres');
  }
}

function findProgramIn(directory: string, name: string): boolean {
  try {
    accessSync(join(directory, name), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function parseMajors(text: string): number[] {
  const majors = text.split(',').map((part) => Number(part.trim()));
  const wrong = majors.find((major) => !Number.isInteger(major) || major < 13);
  if (wrong !== undefined)
    throw new Error(`WALCAST_TEST_MAJORS=${text}: a list like 13,15,18 is expected`);
  return majors;
}

/**
 * For a need that only a try can tell (a mount, another user's rights): inside a test, skips it with the reason, or fails
 * it where everything must be there. Does not return when `problem` is not null.
 */
export function needs(context: { skip(note?: string): never }, problem: string | null): void {
  if (problem === null) return;
  if (MUST_HAVE_ALL) throw new Error(`WALCAST_TEST_REQUIRE=all, but ${problem}`);
  process.stderr.write(`skipped: ${problem}\n`);
  context.skip(problem);
}
