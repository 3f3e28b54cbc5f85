// Which faults can this machine inject? The list of what it cannot is printed, and is the committed one.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ABILITIES, ABSENT_ABILITIES } from '../support/kernel-abilities.ts';
import { findProgram, needs } from '../support/requirements.ts';

/** The programs that probes use; without them nothing can be said about the kernel. */
const PROGRAMS = ['unshare', 'tc', 'strace'];

describe('the kernel', () => {
  it('lacks what the committed list says, and nothing else', (context) => {
    needs(context, process.getuid?.() === 0 ? null : 'abilities of the kernel are probed as root');
    const missing = PROGRAMS.filter((name) => findProgram(name) === null);
    needs(context, missing.length === 0 ? null : `${missing.join(', ')} not installed`);
    const absent = ABILITIES.filter(({ probe }) => !probe());
    for (const { name, injects, instead } of absent) {
      process.stderr.write(`this kernel has no ${name} (${injects}); instead: ${instead}\n`);
    }
    expect(absent.map(({ name }) => name)).toEqual(ABSENT_ABILITIES);
  });

  it('is described as it is in docs/reliability.md', () => {
    const page = readFileSync(new URL('../../docs/reliability.md', import.meta.url), 'utf8');
    for (const { name, injects, instead } of ABILITIES) {
      const state = ABSENT_ABILITIES.includes(name) ? `absent; ${instead}` : `there`;
      expect(page).toContain(`| ${name} | ${injects} | ${state} |`);
    }
  });
});
