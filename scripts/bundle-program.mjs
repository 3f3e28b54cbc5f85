// Puts the program and what it imports into a few files: a command starts in a third of the time that it takes to find and
// read a thousand modules, and a restore_command, a probe and a failover all wait for a start.
import { build } from 'esbuild';

/** Packages that are loaded when they are first needed, from where they are installed. */
const LOADED_LATER = ['undici'];

/** Packages of CommonJS ask for Node's own modules by `require`, which a module has to make for itself. */
const REQUIRE = [
  "import { createRequire as createRequireOfBundle } from 'node:module';",
  'const require = createRequireOfBundle(import.meta.url);',
].join('\n');

/**
 * Bundles the compiled tree at `tree` into `tree/program`: main.js, and the modules that threads start with beside it. The
 * folder is as deep as the rooms are, so that a path relative to a module holds for both.
 */
export async function bundleProgram(tree) {
  await build({
    entryPoints: [`${tree}/main.js`, `${tree}/wal/writer-thread.js`],
    outdir: `${tree}/program`,
    entryNames: '[name]',
    chunkNames: '[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    external: LOADED_LATER,
    banner: { js: REQUIRE },
    // Names stand in stack traces.
    keepNames: false,
    sourcemap: 'linked',
    sourcesContent: false,
    logLevel: 'warning',
  });
}
