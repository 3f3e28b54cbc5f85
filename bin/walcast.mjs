#!/usr/bin/env node
// The command of the package. A clone that has nothing compiled yet is made ready by scripts/bootstrap.mjs, which no package has.
import { existsSync } from 'node:fs';

const program = new URL('../dist/program/main.js', import.meta.url);
const bootstrap = new URL('../scripts/bootstrap.mjs', import.meta.url);

if (!existsSync(program) && existsSync(bootstrap)) await import(bootstrap.href);
await import(program.href);
