// walcast version: one line that says which walcast this is.
import { readBuildInfo } from '../config/build-info.ts';
import type { BuildInfo } from '../config/build-info.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';

/** Name, version, revision, Node.js, and the PostgreSQL majors that are served. */
export function versionLine(build: BuildInfo): string {
  const revision = build.revision === null ? '' : ` (${build.revision})`;
  const majors = [build.postgresqlMajors[0], build.postgresqlMajors.at(-1)];
  const unverified =
    build.unverifiedMajors.length === 0 ? '' : ` (${build.unverifiedMajors.join(', ')} unverified)`;
  return `walcast ${build.version}${revision}, Node.js ${build.nodeVersion}, PostgreSQL ${majors.join(' to ')}${unverified}`;
}

/** The command. */
export const versionCommand: Command = {
  name: 'version',
  summary: 'Show version, git revision, Node.js version and the PostgreSQL majors served.',
  options: [],
  help: `
One line; the same as "walcast --version".

Examples:
  walcast version
  walcast --version
`,
  async run(context): Promise<number> {
    context.print(`${versionLine(readBuildInfo(context.env))}\n`);
    return EXIT.ok;
  },
};
