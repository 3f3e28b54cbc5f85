// The status page at `/`: one file, made by scripts/bundle-page.mjs, given from memory.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemErrorCode } from '../base/errors.ts';
import { sendProblem } from './problems.ts';
import { refusal } from './route.ts';
import type { Route } from './route.ts';

/** As deep from here as from the bundled program. */
const PAGE_FILE = new URL('../../dist/page/index.html', import.meta.url);

/** A page that can be given. */
export interface StatusPage {
  readonly html: Buffer;
  /** Strong: of the bytes. */
  readonly etag: string;
  /** Content-Security-Policy: what stands in the page may run, and nothing else; it may ask this port, and nobody else. */
  readonly policy: string;
}

/** The page with what has to be said beside it. */
export function statusPage(html: Buffer): StatusPage {
  const text = html.toString('utf8');
  const policy = [
    "default-src 'none'",
    `script-src ${hashesOf(text, 'script')}`,
    `style-src ${hashesOf(text, 'style')}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  return { html, etag: `"${sha256(html).slice(0, 27)}"`, policy };
}

/** What was built; null where nothing was. Throws what reading the file throws. */
export function readStatusPage(file: URL = PAGE_FILE): StatusPage | null {
  try {
    return statusPage(readFileSync(fileURLToPath(file)));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** The route. Nothing of the relay stands in the page: whoever reaches the port may have it. */
export function pageRoute(page: StatusPage | null): Route {
  return {
    method: 'GET',
    path: '/',
    operation: 'getStatusPage',
    summary: 'The status page, for a browser. What it shows comes from /api/v1/events.',
    access: 'open',
    parameters: [],
    answers: {
      200: { description: 'The page.', type: 'text/html; charset=utf-8' },
      304: { description: 'It is the one whose ETag was sent as If-None-Match.' },
      404: refusal('The page was not built.'),
    },
    handle: (request, reply) => {
      if (page === null) {
        return sendProblem(reply, 'not-found', {
          detail: 'the status page was not built',
          hint: 'Run "npm run build"; GET /api/v1/status answers the same as JSON.',
        });
      }
      void reply
        .header('cache-control', 'no-cache')
        .header('etag', page.etag)
        .header('content-security-policy', page.policy)
        .header('referrer-policy', 'no-referrer')
        .header('cross-origin-resource-policy', 'same-origin');
      // Without TLS a browser ignores it, and calls that an error in its console.
      if (request.protocol === 'https') {
        void reply.header('cross-origin-opener-policy', 'same-origin');
      }
      if (isNamed(request.headers['if-none-match'], page.etag)) return reply.code(304).send();
      return reply.type('text/html; charset=utf-8').send(page.html);
    },
  };
}

/** True when the header names this ETag; a proxy may have made it a weak one. */
function isNamed(header: string | undefined, etag: string): boolean {
  const names = (header ?? '').split(',').map((name) => name.trim().replace(/^W\//, ''));
  return names.includes(etag) || names.includes('*');
}

/** Of each element of that name, as a source of a policy; none lets nothing run. */
function hashesOf(html: string, element: 'script' | 'style'): string {
  const contents = html.matchAll(new RegExp(`<${element}>([^]*?)</${element}>`, 'g'));
  const hashes = [...contents].map(([, content = '']) => `'sha256-${sha256(content)}'`);
  return hashes.length === 0 ? "'none'" : hashes.join(' ');
}

function sha256(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('base64');
}
