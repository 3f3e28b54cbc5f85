// The rules of deploy/compose, and that the reader of it leaves no key out.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseComposeFile } from '../harness/compose-file.ts';

const FOLDER = fileURLToPath(new URL('../../deploy/compose', import.meta.url));
const TEXT = readFileSync(join(FOLDER, 'docker-compose.yml'), 'utf8');
const SERVICES = parseComposeFile(TEXT);

/** The smallest file that is one. */
const SMALL = 'services: { a: { image: x, healthcheck: { test: [CMD, y] }, ADDED } }';

describe('the compose file', () => {
  it('publishes every port to this machine alone, each once', () => {
    const ports = [...SERVICES.values()].flatMap((service) => service.ports);
    expect(ports).toHaveLength(4);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    expect(new Set(ports.map((port) => port.split(':')[1])).size).toBe(ports.length);
  });

  it('gives walcast no right that it does not need, and time to drain', () => {
    const walcast = SERVICES.get('walcast');
    expect(walcast).toMatchObject({
      isReadOnly: true,
      capDrop: ['ALL'],
      securityOpt: ['no-new-privileges:true'],
      command: [],
      user: null,
    });
    expect(walcast?.stopGraceSeconds).toBeGreaterThan(30);
  });

  it('builds what it calls by the version of the package', () => {
    const manifest: unknown = JSON.parse(readFileSync(join(FOLDER, '../../package.json'), 'utf8'));
    expect(SERVICES.get('walcast')).toMatchObject({
      image: `walcast:${String(Reflect.get(Object(manifest), 'version'))}`,
      buildContext: '../..',
    });
  });

  it('lets every secret be replaced from outside, and uses the same for all who share it', () => {
    const services = parseComposeFile(TEXT, {
      REPLICATION_PASSWORD: 'mine',
      POSTGRES_PASSWORD: 'p',
    });
    const pairs = [...services.values()].flatMap(({ environment }) => Object.entries(environment));
    const secrets = pairs
      .map((pair) => pair.join('='))
      .filter((pair) => /^\w*PASSWORD=/.test(pair));
    expect(secrets.toSorted()).toEqual([
      'PGPASSWORD=mine',
      'PGPASSWORD=mine',
      'POSTGRES_PASSWORD=p',
      'REPLICATION_PASSWORD=mine',
    ]);
  });

  it('names only slots that walcast makes', () => {
    const yaml: unknown = parse(readFileSync(join(FOLDER, 'walcast/walcast.yaml'), 'utf8'));
    const script = readFileSync(join(FOLDER, 'standby.sh'), 'utf8');
    const slot = /--slot=(\w+)/.exec(script)?.[1];
    expect(Reflect.get(Object(yaml), 'slots')).toContain(slot);
  });
});

it('scripts that are mounted into containers keep their line ends in a clone on Windows', () => {
  const scripts = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.sh'),
  );
  expect(scripts).toHaveLength(2);
  const attributes = readFileSync(join(FOLDER, '../../.gitattributes'), 'utf8');
  expect(attributes).toMatch(/^\*\.sh .*eol=lf$/m);
});

describe('the reader of compose files', () => {
  it.each([
    'privileged: true',
    'network_mode: host',
    'volumes: ["/etc:/etc"]',
    'volumes: ["../x:/x"]',
    'depends_on: { b: { condition: service_started } }',
    'stop_grace_period: soon',
    'environment: { A: "${B:?no}" }',
    'environment: { A: "$B" }',
  ])('refuses %s', (line) => {
    expect(() => parseComposeFile(SMALL.replace(', ADDED', ''))).not.toThrow();
    expect(() => parseComposeFile(SMALL.replace('ADDED', line))).toThrow();
  });

  it('takes a default where nothing was given, or nothing but emptiness', () => {
    const text = SMALL.replace('ADDED', 'environment: { A: "${B:-x}" }');
    expect(parseComposeFile(text).get('a')?.environment).toEqual({ A: 'x' });
    expect(parseComposeFile(text, { B: '' }).get('a')?.environment).toEqual({ A: 'x' });
    expect(parseComposeFile(text, { B: 'y' }).get('a')?.environment).toEqual({ A: 'y' });
  });
});
