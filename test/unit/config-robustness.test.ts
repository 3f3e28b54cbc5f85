// Does any text at all end in a configuration or in a list of mistakes, never in an exception?
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readEnvironmentLayer, readFlagLayer } from '../../src/config/named-layers.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { readYamlLayer, rememberingYamlReader } from '../../src/config/yaml-layer.ts';
import { loadConfig } from '../../src/config/load.ts';

const PAGE = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
const EXAMPLE = /```yaml\n([\s\S]*?)```/.exec(PAGE)?.[1] ?? '';

function mistakesOf(yaml: string): void {
  const { errors } = readYamlLayer(yaml, 'x.yaml');
  const lines = yaml.split('\n').length;
  for (const { place, message } of errors) {
    expect(place.line).toBeGreaterThanOrEqual(1);
    expect(place.line).toBeLessThanOrEqual(lines);
    expect(place.column).toBeGreaterThanOrEqual(1);
    expect(message).not.toBe('');
  }
}

test('the example cut off anywhere', () => {
  expect(EXAMPLE.length).toBeGreaterThan(100);
  for (let end = 0; end <= EXAMPLE.length; end++) mistakesOf(EXAMPLE.slice(0, end));
});

test('the example with one character replaced', () => {
  fc.assert(
    fc.property(
      fc.nat(EXAMPLE.length - 1),
      fc.constantFrom(...'\t\n:{}[]*&!|>\'"#%@`-?,\u0000\uFEFF0'.split(''), '\u{1F600}'),
      (at, character) => {
        mistakesOf(EXAMPLE.slice(0, at) + character + EXAMPLE.slice(at + 1));
      },
    ),
    { numRuns: 500 },
  );
});

test('any text', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), mistakesOf), {
    numRuns: 500,
  });
});

test('any document of maps, lists and scalars', () => {
  const keys = [...SETTINGS.flatMap(({ path }) => path.split('.')), 'address', 'tls', 'x'];
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.string(),
      fc.double(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom(...keys), tie('tree'), { maxKeys: 6 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => mistakesOf(JSON.stringify(value))),
    { numRuns: 500 },
  );
});

test('any value of any key, from every source', () => {
  const path = fc.constantFrom(...SETTINGS.map((setting) => setting.path));
  fc.assert(
    fc.property(path, fc.string({ unit: 'binary', maxLength: 80 }), (key, text) => {
      const loaded = loadConfig({
        flags: [{ path: key, text, flag: '--set' }],
        env: {},
        file: null,
        workingDirectory: '/nowhere',
      });
      expect('config' in loaded || loaded.errors.length > 0).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test('any name of a variable or a key', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 60 }), fc.string(), (name, text) => {
      readEnvironmentLayer({ [`WALCAST_${name}`]: text });
      readFlagLayer([{ path: name, text, flag: '--set' }]);
    }),
  );
});

test('the same file is not taken apart twice', () => {
  const read = rememberingYamlReader();
  const first = read(EXAMPLE, 'x.yaml');
  expect(first).toEqual(readYamlLayer(EXAMPLE, 'x.yaml'));
  expect(read(EXAMPLE, 'x.yaml')).toBe(first);
  expect(read(EXAMPLE, 'y.yaml').values.get('upstream.conninfo')?.place.source).toBe('y.yaml');
  expect(read('', 'x.yaml').isReadable).toBe(false);
  expect(read(EXAMPLE, 'x.yaml')).toEqual(first);
});
