// A primary to measure with, of the compiled walcast that is measured: made, handed to a measurement, and removed however that ends.
import { pathToFileURL } from 'node:url';
import { closeWhenInterrupted } from './interrupt.mjs';

/**
 * @typedef {object} BenchPlace
 * @property {import('../src/demo/postgres-workspace.ts').Workspace} workspace
 * @property {import('../src/demo/postgres-server.ts').PostgresCluster} primary
 * @property {import('./workloads.mjs').Session} session on the primary; open until the measurement ends
 * @property {typeof import('../src/demo/walcast-process.ts')} harness starts walcast
 */

/**
 * @template Result
 * @param {{ dist: string, postgres: number, settings?: Record<string, string> }} options dist: the folder with the compiled walcast
 * @param {(place: BenchPlace) => Promise<Result>} measure
 * @returns {Promise<Result>}
 */
export async function withPrimary({ dist, postgres, settings = {} }, measure) {
  const load = (/** @type {string} */ name) =>
    import(pathToFileURL(`${dist}/demo/${name}.js`).href);
  const { openWorkspace } = await load('postgres-workspace');
  const { serverUser } = await load('postgres-user');
  const { createPrimary } = await load('postgres-cluster');
  const harness = await load('walcast-process');
  const workspace = await openWorkspace(await serverUser());
  const interrupted = closeWhenInterrupted(workspace);
  try {
    const primary = await createPrimary(workspace, { name: 'primary', major: postgres, settings });
    await primary.start();
    const session = await primary.session();
    const result = await measure({ workspace, primary, session, harness });
    session.close();
    return result;
  } finally {
    await workspace.close();
    interrupted.cancel();
  }
}
