// Does the image work? It is built from the Dockerfile's own lines, and started as a cluster would start it: as its user, without
// any right, under a root file system that cannot be written, its process being PID 1.
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { waitUntilReady } from '../../src/demo/walcast-process.ts';
import { buildLine, runLine, shellLines, shellWords } from '../harness/docker-lines.ts';
import { freePort } from '../harness/free-port.ts';
import { imageNode } from '../harness/image-base.ts';
import { execCommand, startContainer } from '../harness/image-container.ts';
import type { Container } from '../harness/image-container.ts';
import { parseImageFile } from '../harness/image-file.ts';
import { imageProblem, imageTree } from '../harness/image-tree.ts';
import type { ImageTree } from '../harness/image-tree.ts';
import { openClusterNetwork } from '../harness/kubelet-network.ts';
import type { ClusterNetwork, PodPlace } from '../harness/kubelet-network.ts';
import { namespaceProblem } from '../harness/namespaces.ts';
import { MUST_HAVE_ALL, needs, newestOfEdges } from '../support/requirements.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const REVISION = '0123456789abcdef0123456789abcdef01234567';
const PROGRAM = '/opt/walcast';
const PAGE = readFileSync(join(ROOT, 'docs/image.md'), 'utf8');
/** Of its page: they are executed one after the other. */
const LINES = shellLines(PAGE);
const OUTPUTS = { 'git rev-parse HEAD': REVISION };
const TAG = 'registry.example.com/walcast:0.1.0';

/** The first who builds it asks the registry for its packages. */
const BUILD_TIMEOUT_MS = 300_000;

const problem = namespaceProblem() ?? (await imageProblem());

describe('the image', () => {
  let workspace: Workspace;
  let image: ImageTree;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    // By the page's own line; what it asks for besides is looked at below.
    const words = shellWords(LINES[0] ?? '', OUTPUTS);
    if (problem === null) image = await imageTree(ROOT, { args: buildLine(words).args });
  }, BUILD_TIMEOUT_MS);

  afterAll(async () => {
    await workspace.close();
  });

  /** Runs words in a container and waits for its end. */
  async function finish(
    command: readonly string[],
    user = image.config.user,
  ): Promise<{ code: number | null; log: string }> {
    const { env, workdir } = image.config;
    const container = await startContainer({
      image,
      user,
      env,
      workdir,
      command,
      mounts: [],
      isReadOnly: true,
      directory: workspace.directory,
    });
    const { exitCode } = await container.ended;
    return { code: exitCode, log: container.log.join('\n') };
  }

  it('has the program and what it loads, and nothing to build with', (context) => {
    needs(context, problem);
    expect(readdirSync(join(image.root, PROGRAM)).toSorted()).toEqual([
      'THIRD-PARTY-LICENCES.txt',
      'bin',
      'dist',
      'node_modules',
      'package.json',
    ]);
    expect(readdirSync(join(image.root, PROGRAM, 'dist'))).toEqual(['page', 'program']);
    expect(readdirSync(join(image.root, PROGRAM, 'node_modules'))).toEqual(['undici']);
    const files = filesOf(image.root);
    expect(files.filter((file) => /\.(ts|map|node)$/.test(file))).toEqual([]);
    expect(image.removed).toContain('/usr/local/lib/node_modules');
  });

  it('lets nobody but root change a file of it', (context) => {
    needs(context, problem);
    for (const file of filesOf(join(image.root, 'opt'))) {
      const { uid, gid, mode } = statSync(file);
      expect([file, uid, gid, mode & 0o022]).toEqual([file, 0, 0, 0]);
      expect([file, mode & 0o444]).toEqual([file, 0o444]);
    }
    const data = statSync(join(image.root, 'var/lib/walcast'));
    expect([data.uid, data.gid, data.mode & 0o7777]).toEqual([10_001, 10_001, 0o700]);
  });

  it('holds the licence of every package that the bundle may have a part of', (context) => {
    needs(context, problem);
    const text = readFileSync(join(image.root, PROGRAM, 'THIRD-PARTY-LICENCES.txt'), 'utf8');
    const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const dependencies = Object.keys(Reflect.get(Object(manifest), 'dependencies'));
    expect(dependencies.length).toBeGreaterThan(3);
    for (const name of dependencies) expect(text).toContain(`== ${name} `);
  });

  it('runs on the Node.js that the Dockerfile names', async (context) => {
    needs(context, problem);
    const file = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
    const wanted = /^ARG NODE_VERSION=(.*)$/m.exec(file)?.[1];
    const { version } = imageNode();
    if (version !== wanted && !MUST_HAVE_ALL)
      return needs(
        context,
        `WALCAST_TEST_IMAGE_NODE names no Node.js ${wanted}; ${version} stands in`,
      );
    expect((await finish(['node', '--version'])).log).toBe(`v${wanted}`);
    const release = await finish(['node', '-p', 'process.release.lts']);
    expect(release.log).not.toBe('undefined');
  });

  it('says which sources it was built from', async (context) => {
    needs(context, problem);
    const { code, log } = await finish([...image.config.entrypoint, '--version']);
    expect({ code, log }).toEqual({ code: 0, log: expect.stringContaining(REVISION.slice(0, 12)) });
    expect(image.config.labels['org.opencontainers.image.revision']).toBe(REVISION);
  });

  it('has no package manager and no way to become root', async (context) => {
    needs(context, problem);
    // Programs of this machine in /usr/bin stand in for Debian's; what the base adds is below /usr/local and /opt.
    const { log } = await finish(['/bin/ls', '/usr/local/bin', '/usr/local/lib', '/opt']);
    expect(log).toMatch(/^node$/m);
    expect(log).not.toMatch(/npm|npx|yarn|corepack|node_modules/);
    const status = await finish(['/bin/grep', '-E', '^(Uid|Cap|NoNewPrivs)', '/proc/self/status']);
    expect(status.log).toMatch(/^Uid:\t10001\t10001/m);
    expect(status.log).toMatch(/^CapEff:\t0+$/m);
    expect(status.log).toMatch(/^CapBnd:\t0+$/m);
  });

  it('cannot be written to by its process', async (context) => {
    needs(context, problem);
    for (const path of ['/opt/walcast/x', '/var/lib/walcast/x', '/x'])
      expect((await finish(['/bin/touch', path])).log).toMatch(/Read-only file system/);
  });

  it('loads the package that is not in the bundle', async (context) => {
    needs(context, problem);
    // Nobody listens there; an HTTPS address takes undici.
    const url = `https://127.0.0.1:${await freePort()}`;
    const { log } = await finish([...image.config.entrypoint, 'status', '--url', url]);
    expect(log).toMatch(/ECONNREFUSED|refused/i);
    expect(log).not.toMatch(/MODULE_NOT_FOUND|Cannot find/);
  });

  it('ends with 78 and says why when nobody mounted a configuration', async (context) => {
    needs(context, problem);
    const { entrypoint, cmd } = image.config;
    const { code, log } = await finish([...entrypoint, ...cmd]);
    expect(code).toBe(78);
    expect(log).toContain('/etc/walcast/walcast.yaml');
  });

  describe.each(newestOfEdges())(
    'between servers of PostgreSQL %i, by the lines of its page',
    (major) => {
      const executed: string[] = [];
      let network: ClusterNetwork | null = null;
      let pod: PodPlace;
      let primary: PostgresCluster;
      let standby: PostgresCluster;
      let container: Container;

      beforeAll(async () => {
        if (problem !== null) return;
        network = await openClusterNetwork();
        pod = await network.addPod();
        primary = await createPrimary(workspace, { name: `primary-${major}`, major });
        // Its socket is mounted into the container, which has a network of its own.
        chmodSync(join(workspace.directory, `primary-${major}`), 0o711);
        await primary.start();
        await primary.query('CREATE TABLE t (i int)');
        standby = await createStandby(workspace, {
          name: `standby-${major}`,
          major,
          slot: 'standby',
          backupFrom: primary.target(),
          upstream: { ...primary.target(), host: pod.address, port: 5432 },
        });
      });

      afterAll(async () => {
        await container?.stop('SIGKILL');
        await network?.[Symbol.asyncDispose]();
      });

      /** The lines of the page from the next on that begin so. */
      function next(begin: string): string[] {
        const line = LINES[executed.length] ?? '(none)';
        expect(line.startsWith(begin), `${line} comes before ${begin}`).toBe(true);
        executed.push(line);
        return shellWords(line, OUTPUTS);
      }

      /** As the line says, as `user`: with a volume as the kubelet makes it for a group, and a configuration. */
      async function start(words: readonly string[], user: string): Promise<Container> {
        const place = mkdtempSync(join(workspace.directory, 'place-'));
        const [volume, configuration] = [join(place, 'data'), join(place, 'etc')];
        chmodSync(place, 0o755);
        mkdirSync(volume);
        chownSync(volume, 0, Number(user.split(':')[1]));
        chmodSync(volume, 0o2775);
        mkdirSync(configuration);
        writeFileSync(join(configuration, 'walcast.yaml'), settings(network?.cidr ?? ''));
        chmodSync(join(configuration, 'walcast.yaml'), 0o644);
        const line = runLine(words, { walcast: volume, '/etc/walcast': configuration });
        const { env, workdir, entrypoint, cmd } = image.config;
        const started = await startContainer({
          image,
          user,
          env,
          workdir,
          command: [...entrypoint, ...(line.command.length > 0 ? line.command : cmd)],
          mounts: [
            ...line.mounts,
            { source: join(workspace.directory, `primary-${major}`), target: '/run/primary' },
          ],
          isReadOnly: line.isReadOnly,
          directory: workspace.directory,
          enter: pod.enter,
        });
        if (line.name !== null)
          await waitUntilReady(started, `http://${pod.address}:9188`, { timeoutMs: 30_000 });
        return started;
      }

      /** As `docker exec` in the container that runs; what it prints. */
      function beside(command: readonly string[]): string {
        const { env, workdir, user } = image.config;
        const [program = '', ...rest] = execCommand(container, { user, env, workdir, command });
        return execFileSync(program, rest, { encoding: 'utf8' });
      }

      function settings(cidr: string): string {
        const { port, user } = primary.target();
        return `
upstream: { conninfo: host=/run/primary port=${port} user=${user} }
listen: [ { address: "0.0.0.0:5432" } ]
auth:
  hba: |
    host replication all ${cidr} trust
storage: { directory: /var/lib/walcast/data }
slots: [ standby ]
http: { listen: "0.0.0.0:9188" }
`;
      }

      it('is built, and says which it is', async (context) => {
        needs(context, problem);
        expect(buildLine(next('docker build'))).toEqual({
          args: { REVISION },
          tag: TAG,
          context: '.',
        });
        const words = next('docker run --rm');
        const started = await start(words, image.config.user);
        expect(await started.ended).toMatchObject({ exitCode: 0 });
        expect(started.log.join()).toContain(REVISION.slice(0, 12));
        expect(next('docker push')).toContain(TAG);
      });

      it('feeds a standby and drains when it is told to end, as PID 1', async (context) => {
        needs(context, problem);
        const words = next('docker run --detach');
        const line = runLine(words, { walcast: '', '/etc/walcast': '' });
        expect([line.image, line.name]).toEqual([TAG, 'walcast']);
        expect(line.stopSeconds).toBeGreaterThan(30);
        container = await start(words, image.config.user);
        const status = readFileSync(`/proc/${container.inner}/status`, 'utf8');
        expect(status).toMatch(/^NSpid:\t\d+\t1$/m);
        await standby.start();
        await primary.query('INSERT INTO t SELECT generate_series(1, 1000)');
        await standby.waitForValue('SELECT count(*) FROM t', '1000');
        expect(beside(next('docker exec walcast node').slice(3))).toContain('standby');
        const size = /^([\d.]+)M/.exec(beside(next('docker exec walcast du').slice(3)))?.[1];
        expect(PAGE).toContain(`licences; ${Math.round(Number(size))} MB,`);
        beside(next('docker exec walcast sh').slice(3));
        await container.waitForLog(/the configuration was read again/);
        next('docker stop walcast');
        const end = await container.stop('SIGTERM', line.stopSeconds * 1000);
        expect(end).toEqual({ exitCode: 0, signal: null });
        // Nothing but walcast's own lines: no warning of Node.js about what it is going to take away.
        expect(container.log.filter((text) => !text.startsWith('{"'))).toEqual([]);
        const told = container.log.filter((text) => /"level":"(warn|error|fatal)"/.test(text));
        expect(told.filter((text) => !/trust|the HTTP port can be reached/.test(text))).toEqual([]);
      });

      it('is built from the base that the last line names', (context) => {
        needs(context, problem);
        const { args } = buildLine(next('docker build'));
        const file = parseImageFile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'));
        expect(args).toEqual(file.args);
        expect(executed).toEqual(LINES);
      });

      it('runs as any user whom nobody knows by name, as OpenShift wants it', async (context) => {
        needs(context, problem);
        const line = LINES.find((text) => text.startsWith('docker run --detach')) ?? '';
        container = await start(shellWords(line), '1000680000:0');
        await primary.query('INSERT INTO t VALUES (1)');
        await standby.waitForValue('SELECT count(*) FROM t', '1001');
        expect(await container.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
      });
    },
  );
});

function filesOf(directory: string): string[] {
  const text = execFileSync('find', [directory, '-type', 'f', '-print0'], { encoding: 'utf8' });
  return text.split('\0').filter((path) => path !== '');
}
