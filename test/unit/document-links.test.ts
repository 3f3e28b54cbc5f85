// Does every link of the documents lead somewhere: to a file of the repository, and to a heading that is there?
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

function documentsIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((name) => name.endsWith('.md'));
}

const DOCUMENTS = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...['docs', 'deploy', 'dashboards'].flatMap(documentsIn),
];

/** Text without what is shown as it is: code is no link, and a `#` in it no heading. */
function proseOf(text: string): string {
  return text.replaceAll(/^( *)(```+)[^\n]*\n[\s\S]*?^ *\2 *$/gm, '');
}

/** Names of the headings, as they are made for links to them. */
function anchorsOf(path: string): Set<string> {
  const anchors = new Set<string>();
  const prose = proseOf(readFileSync(path, 'utf8'));
  for (const [, heading = ''] of prose.matchAll(/^#{1,6} +(.*?) *$/gm)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll(/[`*]/g, '');
    const name = plain
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = name;
    for (let count = 1; anchors.has(anchor); count += 1) anchor = `${name}-${count}`;
    anchors.add(anchor);
  }
  for (const [, name = ''] of prose.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(name);
  return anchors;
}

function linksOf(text: string): string[] {
  const prose = proseOf(text).replaceAll(/`[^`\n]*`/g, '`');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
}

function problemOf(document: string, link: string): string | null {
  if (/^[a-z]+:/.test(link)) return null;
  const [file = '', anchor] = link.split('#');
  const path = file === '' ? join(ROOT, document) : join(ROOT, dirname(document), file);
  if (!existsSync(path)) return `${document}: ${link}: there is no ${relative(ROOT, path)}`;
  if (anchor === undefined || statSync(path).isDirectory()) return null;
  return anchorsOf(path).has(anchor) ? null : `${document}: ${link}: no such heading`;
}

test('every link of every document leads somewhere', () => {
  const links = DOCUMENTS.flatMap((document) =>
    linksOf(readFileSync(join(ROOT, document), 'utf8')).map((link) => [document, link] as const),
  );
  expect(DOCUMENTS.length).toBeGreaterThan(50);
  expect(links.length).toBeGreaterThan(100);
  const problems = links.map(([document, link]) => problemOf(document, link));
  expect(problems.filter((problem) => problem !== null)).toEqual([]);
});

test('a link that leads nowhere is found', () => {
  expect(problemOf('README.md', 'docs/nowhere.md')).toContain('there is no docs/nowhere.md');
  expect(problemOf('docs/check.md', '#nowhere')).toContain('no such heading');
  expect(problemOf('docs/check.md', '#walcast-init')).toBeNull();
  expect(linksOf('`[a](b)` [c](d.md#e)\n```\n[f](g)\n```\n')).toEqual(['d.md#e']);
});
