// Puts the status page into one file: script and style stand inside, so that nothing is asked for but the page and the API.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What browsers of the last years understand. */
const BROWSERS = ['chrome117', 'firefox115', 'safari16.4'];

/** Writes `tree/page/index.html`. The same sources make the same bytes. */
export async function bundlePage(tree) {
  const [script, style] = await Promise.all([
    bundle(`${root}page/main.ts`, 'js'),
    bundle(`${root}page/style.css`, 'css'),
  ]);
  const charts = read('node_modules/uplot/dist/uPlot.min.css');
  const html = read('page/index.html')
    .replace('/* style */', () => `${charts}${style}`.trim())
    .replace('/* script */', () => script.trim().replaceAll('</script', '<\\/script'));
  const licence = read('node_modules/uplot/LICENSE').trim();
  mkdirSync(`${tree}/page`, { recursive: true });
  writeFileSync(
    `${tree}/page/index.html`,
    `${html.trimEnd()}\n<!-- The charts are drawn by uPlot.\n\n${licence}\n-->\n`,
  );
}

async function bundle(entry, loader) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: loader === 'js' ? 'iife' : undefined,
    target: BROWSERS,
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
  });
  return outputFiles[0].text;
}

function read(path) {
  return readFileSync(`${root}${path}`, 'utf8');
}
