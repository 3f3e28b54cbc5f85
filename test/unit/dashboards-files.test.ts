// The committed JSON and YAML is what the sources make.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DASHBOARDS } from '../../dashboards/src/dashboards.ts';
import {
  generatedFiles,
  GRAFANA_PATH,
  KUBERNETES_PATH,
  RULES_PATH,
} from '../../dashboards/src/files.ts';
import { promtool } from '../support/promtool.ts';
import { requires } from '../support/requirements.ts';

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

describe('the files for Kubernetes and for provisioning', () => {
  const manifests = [...generated.keys()].filter((path) => path.startsWith(`${KUBERNETES_PATH}/`));

  it('hold every dashboard in a ConfigMap that the sidecar of Grafana finds', () => {
    for (const { uid } of DASHBOARDS) {
      const manifest = parse(read(`${KUBERNETES_PATH}/${uid}.yaml`));
      expect(manifest).toMatchObject({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: uid, labels: { grafana_dashboard: '1' } },
      });
      expect(Object.keys(manifest.data)).toEqual([`${uid}.json`]);
      const inside = JSON.parse(manifest.data[`${uid}.json`]);
      expect(inside).toEqual(JSON.parse(read(`${GRAFANA_PATH}/${uid}.json`)));
      // What etcd and the API server take at most is 1 MiB.
      expect(read(`${KUBERNETES_PATH}/${uid}.yaml`).length).toBeLessThan(512 * 1024);
    }
  });

  it('are all named by the kustomization', () => {
    const { resources } = parse(read(`${KUBERNETES_PATH}/kustomization.yaml`));
    const expected = manifests
      .map((path) => basename(path))
      .filter((name) => name !== 'kustomization.yaml');
    expect(resources.toSorted()).toEqual(expected.toSorted());
  });

  it('have Grafana look where the page on dashboards says that they are to be put', () => {
    const folder = 'dashboards/provisioning';
    const { providers } = parse(read(`${folder}/dashboards.yaml`));
    expect(providers[0]).toMatchObject({ type: 'file', allowUiUpdates: false });
    expect(read('docs/dashboards.md')).toContain(`\`${providers[0].options.path}\``);
    const { datasources } = parse(read(`${folder}/datasource.yaml`));
    const { global, scrape_configs: jobs } = parse(read(`${folder}/prometheus.yml`));
    // Rates are taken over windows that follow from it.
    expect(datasources[0].jsonData.timeInterval).toBe(global.scrape_interval);
    expect(jobs[0].job_name).toContain('walcast');
  });

  requires('promtool').it('are a configuration to Prometheus', () => {
    const { isGood, output } = promtool(
      ['check', 'config', '--syntax-only', 'dashboards/provisioning/prometheus.yml'],
      ROOT,
    );
    expect(isGood, output).toBe(true);
  });
});

describe('the sources of the dashboards', () => {
  it('take nothing of the program but the names of its metrics', () => {
    const folder = join(ROOT, 'dashboards/src');
    const imports = readdirSync(folder).flatMap((name) =>
      [
        ...readFileSync(join(folder, name), 'utf8').matchAll(
          /^import (type )?[\s\S]*?from '([^']+)';$/gm,
        ),
      ].map(([, type, from = '']) => `${type ?? ''}${from}`),
    );
    const outside = imports.filter((from) => !/^(type )?\.\/[\w-]+\.ts$/.test(from));
    const others = outside.filter((from) => !from.startsWith('@grafana/grafana-foundation-sdk/'));
    expect([...new Set(others)]).toEqual(['type ../../src/metrics/catalogue.ts']);
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}
