// The committed JSON and YAML is what the sources make.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  generatedFiles,
  GRAFANA_PATH,
  KUBERNETES_PATH,
  RULES_PATH,
} from '../../dashboards/src/files.ts';

const ROOT = join(import.meta.dirname, '../..');
const generated = generatedFiles(read(RULES_PATH));

describe('dashboards/', () => {
  it.each([...generated])('%s is what the sources make', (path, text) => {
    if (process.env['WALCAST_TEST_UPDATE'] === '1') {
      mkdirSync(dirname(join(ROOT, path)), { recursive: true });
      writeFileSync(join(ROOT, path), text);
    }
    expect(read(path) === text, `${path}: WALCAST_TEST_UPDATE=1 writes it`).toBe(true);
  });

  it('holds no dashboard and no manifest that nothing makes', () => {
    const made = [...generated.keys()].toSorted();
    const found = [GRAFANA_PATH, KUBERNETES_PATH].flatMap((folder) =>
      readdirSync(join(ROOT, folder)).map((name) => `${folder}/${name}`),
    );
    expect(found.toSorted()).toEqual(made);
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}
