// Where is the module that a worker thread starts with? Threads load compiled JavaScript only: Node.js 20 cannot run
// TypeScript, and a test runner's loader does not reach into threads. So a source that runs uncompiled, which only
// happens in tests, starts its threads from the compiled tree that `npm run build` makes.

/** The URL of the module `name` (without extension) beside the module at `moduleUrl`, as `new Worker` can load it. */
export function workerModule(moduleUrl: string, name: string): URL {
  if (!moduleUrl.endsWith('.ts')) return new URL(`./${name}.js`, moduleUrl);
  const compiled = moduleUrl.replace(/\/src\/((?:[^/]+\/)*)[^/]+\.ts$/, '/dist/$1');
  return new URL(`${name}.js`, compiled);
}
