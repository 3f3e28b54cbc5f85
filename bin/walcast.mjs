#!/usr/bin/env node
// The command of the package. In a clone the sources are compiled first by scripts/bootstrap.mjs.
import '../dist/program/main.js';
