// Can the pages on the examples be followed? Their commands run, kubectl as far as no cluster has to answer, and what they make is what
// the examples mount.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { configurationOf, podSpec, statefulSets } from '../support/manifest-pod.ts';
import { objectsOf, rendered, theObject } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { findProgram, requires } from '../support/requirements.ts';

const ROOT = join(import.meta.dirname, '../..');
const { it } = requires('kubectl', 'openssl');

/** Several programs one after the other, on a machine that has other things to do. */
const PAGE_MS_MAX = 60_000;

/** The page; the folder that its commands are typed in, from the root; the example; users that it makes. */
const PAGES = [
  ['docs/cloudnative-pg.md', '.', 'cloudnative-pg', ['replica']],
  ['docs/patroni.md', '.', 'patroni', ['replicator']],
  ['deploy/examples/plain/README.md', 'deploy/examples/plain', 'plain', ['replicator']],
] as const;

/** In the place of kubectl: what would be made is printed, files that are named have to be there. */
const KUBECTL = `#!/bin/sh
case "$1 $2" in
  'create secret') exec "$REAL_KUBECTL" "$@" --dry-run=client -o yaml > "$MADE/$3-$4.yaml" ;;
  'apply -k') cd "$ORIGIN" && exec "$REAL_KUBECTL" kustomize "$3" > "$MADE/applied" ;;
  'apply -f') test -s "$3" ;;
  'patch cluster') case "$6" in
      --patch-file) test -s "$7" ;;
      --patch) test "$(node -p 'JSON.parse(process.argv[1]).spec.postgresql.synchronous' "$7")" = null ;;
      *) exit 1 ;;
    esac ;;
  *) echo "kubectl $* is not known here" >&2; exit 1 ;;
esac
`;

const PATRONICTL = `#!/bin/sh
test "$1 $2" = 'edit-config --apply' && test -s "$3"
`;

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'walcast-example-page-'));
  for (const name of ['bin', 'made', 'place']) mkdirSync(join(folder, name));
  writeProgram('kubectl', KUBECTL);
  writeProgram('patronictl', PATRONICTL);
  writeProgram('walcast', `#!/bin/sh\nexec "${process.execPath}" "${ROOT}/bin/walcast.mjs" "$@"\n`);
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function writeProgram(name: string, text: string): void {
  writeFileSync(join(folder, 'bin', name), text);
  chmodSync(join(folder, 'bin', name), 0o755);
}

/** A folder as the reader has it: everything of the project's one, and certificates. */
function prepare(from: string): void {
  const place = join(folder, 'place');
  for (const name of readdirSync(join(ROOT, from)))
    symlinkSync(join(ROOT, from, name), join(place, name));
  for (const name of ['tls.crt', 'tls.key', 'ca.crt', 'relay.crt', 'relay.key'])
    writeFileSync(join(place, name), 'a certificate of the sample\n');
  const pair = ['-keyout', join(place, 'relay.key'), '-out', join(place, 'relay.crt')];
  const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  spawnSync('openssl', [...words, '-nodes', '-subj', '/CN=walcast', ...pair]);
}

function run(block: string, from: string): void {
  const { status, stderr } = spawnSync('bash', ['--norc', '-euc', block], {
    cwd: join(folder, 'place'),
    input: 'a password\n',
    encoding: 'utf8',
    env: {
      PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
      REAL_KUBECTL: findProgram('kubectl') ?? '',
      MADE: join(folder, 'made'),
      // kustomize follows no links out of its folder.
      ORIGIN: join(ROOT, from),
    },
  });
  expect({ status, stderr, block }).toEqual({ status: 0, stderr: '', block });
}

function filesOf(secret: KubernetesObject): Record<string, string> {
  const data: Readonly<Record<string, unknown>> = Object(secret['data']);
  return Object.fromEntries(
    Object.entries(data).map(([name, text]) => [
      name,
      Buffer.from(String(text), 'base64').toString('utf8'),
    ]),
  );
}

it.each(PAGES)(
  'the commands of %s make what the pod mounts',
  async (page, from, example, users) => {
    prepare(from);
    const text = readFileSync(join(ROOT, page), 'utf8');
    const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
    // What PostgreSQL has to answer is run by the tests of the examples.
    const ours = blocks.filter((block) => !block.includes('psql'));
    for (const block of ours) run(block, from);
    const made = readdirSync(join(folder, 'made'))
      .filter((name) => name.endsWith('.yaml'))
      .flatMap((name) => objectsOf(readFileSync(join(folder, 'made', name), 'utf8')));
    const objects = await rendered(join(ROOT, 'deploy/examples', example));
    expect(objectsOf(readFileSync(join(folder, 'made/applied'), 'utf8'))).toEqual(objects);
    const [set] = statefulSets(objects);
    if (set === undefined) throw new Error('no StatefulSet');
    const mounted = (podSpec(set).volumes ?? []).flatMap(({ secret }) => secret?.secretName ?? []);
    expect(made.map(({ metadata }) => metadata.name).toSorted()).toEqual(mounted.toSorted());
    const secrets = made.flatMap((secret) => Object.keys(filesOf(secret)));
    const configuration = readFileSync(
      join(ROOT, 'deploy/examples', example, 'walcast.yaml'),
      'utf8',
    );
    const named = configuration.matchAll(/\/etc\/walcast-(?:secrets|tls)\/([\w.-]+)/g);
    for (const [path, name = ''] of named) expect(secrets, path).toContain(name);
    const credentials = filesOf(theObject(made, 'Secret', 'walcast-credentials'));
    const config = configurationOf(objects, set, credentials);
    expect([...config.auth.users.keys()]).toEqual(users);
    expect(config.http.token).not.toBe(config.http.walToken);
  },
  PAGE_MS_MAX,
);
