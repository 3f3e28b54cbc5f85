// Compiles src to dist, bundles the program from it, and the status page from page/. Used by the bootstrap, `npm run build` and `npm pack`. The new tree is made beside the old one
// and takes its place whole, so that a walcast that runs from it finds every module until the moment of the swap.
import { renameSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bundlePage } from './bundle-page.mjs';
import { bundleProgram } from './bundle-program.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const fresh = `${root}dist.${process.pid}.new`;
const stale = `${root}dist.${process.pid}.old`;
const tsc = `${root}node_modules/typescript/bin/tsc`;
const result = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', fresh], {
  cwd: root,
  stdio: 'inherit',
});
if (result.status !== 0) {
  rmSync(fresh, { recursive: true, force: true });
  console.error('walcast: the sources do not compile; the lines above say where');
  process.exit(1);
}
await bundleProgram(fresh);
await bundlePage(fresh);
try {
  renameSync(`${root}dist`, stale);
} catch (error) {
  if (error.code !== 'ENOENT') throw error;
}
renameSync(fresh, `${root}dist`);
rmSync(stale, { recursive: true, force: true });
