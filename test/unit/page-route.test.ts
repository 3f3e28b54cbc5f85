// Is the status page one file that needs nobody else, and is it given to browsers in such a way that nothing else can run in it?
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readStatusPage, statusPage } from '../../src/http/page-route.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { openTestPort } from '../support/http-port.ts';
import { bundlePage } from '../../scripts/bundle-page.mjs';

/** What a page may weigh: it is read over slow lines, too. */
const PAGE_BYTES_MAX = 160 * 1024;

let folder: string;
let html: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'walcast-page-'));
  await bundlePage(folder);
  html = readFileSync(join(folder, 'page/index.html'), 'utf8');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function elements(name: string): RegExpMatchArray[] {
  return [
    ...html.matchAll(new RegExp(`<${name}(?<attributes>[^>]*)>(?<content>[^]*?)</${name}>`, 'g')),
  ];
}

describe('the file', () => {
  test('has script and style inside, and asks for nothing', () => {
    expect(elements('script')).toHaveLength(1);
    expect(elements('style')).toHaveLength(1);
    for (const [, attributes = ''] of [...elements('script'), ...elements('style')]) {
      expect(attributes).toBe('');
    }
    const loading =
      /<(?:script|link|img|iframe|object|embed|video|audio|source)\b[^>]*\b(?:src|href|data)="(?!data:)/;
    expect(html).not.toMatch(loading);
    expect(html).not.toMatch(/@import|url\((?!["']?(?:data|#))/);
    expect(html).not.toMatch(/\son[a-z]+="|style="|javascript:/);
  });

  test('names no address of another host but that of the licence and of names of XML', () => {
    const addresses = html.match(/https?:\/\/[\w.-]+/g) ?? [];
    expect(new Set(addresses)).toEqual(new Set(['http://www.w3.org']));
  });

  test('carries the licence of what draws the charts', () => {
    expect(html).toMatch(/The MIT License[^]*Permission is hereby granted/);
  });

  test('is made of the same bytes again, and is small', async () => {
    const again = mkdtempSync(join(tmpdir(), 'walcast-page-'));
    await bundlePage(again);
    const file = join(again, 'page/index.html');
    expect(readFileSync(file, 'utf8')).toBe(html);
    expect(statSync(file).size).toBeLessThan(PAGE_BYTES_MAX);
    rmSync(again, { recursive: true, force: true });
  });
});

describe('the policy', () => {
  test('lets run what stands in the page, as a browser computes it, and nothing else', () => {
    const { policy } = statusPage(Buffer.from(html));
    const hash = (text: string): string =>
      `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
    const directives = Object.fromEntries(
      policy.split('; ').map((line) => [line.split(' ')[0], line.split(' ').slice(1).join(' ')]),
    );
    expect(directives).toEqual({
      'default-src': "'none'",
      'script-src': hash(elements('script')[0]?.groups?.['content'] ?? ''),
      'style-src': hash(elements('style')[0]?.groups?.['content'] ?? ''),
      'connect-src': "'self'",
      'img-src': 'data:',
      'base-uri': "'none'",
      'form-action': "'none'",
      'frame-ancestors': "'none'",
    });
  });

  test('lets nothing run where nothing stands', () => {
    expect(statusPage(Buffer.from('<p>')).policy).toMatch(/script-src 'none'; style-src 'none'/);
  });
});

describe('the route', () => {
  let port: HttpServer;

  beforeAll(async () => {
    port = await openTestPort({ page: statusPage(Buffer.from(html)) });
  });

  afterAll(() => port.close());

  test('gives the page to everybody, to be asked for again when it may be another', async () => {
    const answer = await fetch(`${port.url}/`);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe(html);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(answer.headers.get('cache-control')).toBe('no-cache');
    expect(answer.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; script-src /,
    );
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
    // A browser that does not trust the address complains of it where there is no TLS.
    expect(answer.headers.get('cross-origin-opener-policy')).toBeNull();
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    expect(answer.headers.get('set-cookie')).toBeNull();
  });

  test('says that it is the same page to who has it', async () => {
    const etag = (await fetch(`${port.url}/`)).headers.get('etag') ?? '';
    expect(etag).toMatch(/^"[\w+/]{20,}"$/);
    for (const names of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const answer = await fetch(`${port.url}/`, { headers: { 'if-none-match': names } });
      expect(answer.status, names).toBe(304);
      expect(answer.headers.get('etag')).toBe(etag);
    }
    const other = await fetch(`${port.url}/`, { headers: { 'if-none-match': '"other"' } });
    expect(other.status).toBe(200);
  });

  test('answers HEAD without the page', async () => {
    const answer = await fetch(`${port.url}/`, { method: 'HEAD' });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-length')).toBe(String(Buffer.byteLength(html)));
  });

  test('refuses what changes something', async () => {
    const answer = await fetch(`${port.url}/`, { method: 'POST' });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, HEAD');
  });

  test('leaves other answers out of every cache', async () => {
    const answer = await fetch(`${port.url}/livez`);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });
});

describe('a tree in which it was not built', () => {
  test('has no page, and says how to make one', async () => {
    expect(readStatusPage(pathToFileURL(join(folder, 'absent.html')))).toBeNull();
    const port = await openTestPort({ page: null });
    const answer = await fetch(`${port.url}/`);
    expect(answer.status).toBe(404);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(await answer.json()).toMatchObject({
      detail: 'the status page was not built',
      hint: expect.stringContaining('npm run build'),
    });
    await port.close();
  });
});
