// A headless Chromium for tests of what walcast shows in one: it keeps everything that went wrong in a page, and what a page
// asked of whom.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import { findProgram } from '../support/requirements.ts';

/** How the person in front of it has set it up. */
export interface Viewer {
  readonly colorScheme?: 'light' | 'dark';
  readonly reducedMotion?: 'reduce' | 'no-preference';
  readonly width?: number;
  readonly height?: number;
}

/** A phone that is held upright. */
export const PHONE: Viewer = { width: 360, height: 740 };

/** A rule of axe-core that a page breaks. */
export interface AccessProblem {
  readonly rule: string;
  readonly impact: string;
  readonly help: string;
  /** The first places. */
  readonly where: readonly string[];
}

/** One page, and what became of it. */
export class WatchedPage implements AsyncDisposable {
  readonly page: Page;
  /** URLs of everything that was asked for, in order. */
  readonly requests: string[] = [];
  #complaints: string[] = [];

  /** Use {@link TestBrowser.open}. */
  constructor(page: Page) {
    this.page = page;
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type())) return;
      this.#complaints.push(`${message.type()}: ${message.text()}`);
    });
    page.on('pageerror', (error) =>
      this.#complaints.push(`thrown: ${error.stack ?? error.message}`),
    );
    page.on('crash', () => this.#complaints.push('the page crashed'));
    page.on('request', (request) => this.requests.push(request.url()));
  }

  /** The person sets it up in another way while the page is open. */
  async change({ colorScheme, width = 1280, height = 900 }: Viewer): Promise<void> {
    if (colorScheme !== undefined) await this.page.emulateMedia({ colorScheme });
    await this.page.setViewportSize({ width, height });
  }

  /** Errors and warnings of the console, and what was thrown, since this was asked last; without those that `expected` fits. */
  takeComplaints(expected?: RegExp): string[] {
    const all = this.#complaints;
    this.#complaints = [];
    return expected === undefined ? all : all.filter((text) => !expected.test(text));
  }

  /** What axe-core finds by the rules of WCAG 2.2 AA and its own best practices, of the impacts named. */
  async accessProblems(
    impacts: readonly string[] = ['serious', 'critical'],
  ): Promise<AccessProblem[]> {
    // By the debugger's door, which no content security policy closes.
    await this.page.evaluate(axeSource());
    const violations = await this.page.evaluate<AccessProblem[]>(
      `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(
        ({ id, impact, help, nodes }) => ({
          rule: id,
          impact: impact ?? '',
          help,
          where: nodes.slice(0, 3).map(({ html, failureSummary }) => html + ' ' + failureSummary),
        })))`,
    );
    return violations.filter(({ impact }) => impacts.includes(impact));
  }

  /** What has the focus: its role or tag and its name, as `button Filter`. */
  async focused(): Promise<string> {
    return await this.page.evaluate<string>(`(() => {
      const { activeElement: it } = document;
      if (it === null || it === document.body) return '';
      const name = it.getAttribute('aria-label') ?? it.labels?.[0]?.innerText ?? it.innerText ?? it.id;
      return (it.getAttribute('role') ?? it.tagName.toLowerCase()) + ' ' + name.trim().split('\\n')[0].slice(0, 60);
    })()`);
  }

  /** How far the page is wider than its window, in pixels: what somebody has to scroll sideways. */
  async overflow(): Promise<number> {
    return await this.page.evaluate<number>(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.page.context().close();
  }
}

/** The browser. */
export class TestBrowser implements AsyncDisposable {
  readonly #browser: Browser;

  /** Use {@link openBrowser}. */
  constructor(browser: Browser) {
    this.#browser = browser;
  }

  /** Opens `url` for one viewer, with nothing left over from another page; resolves when the document is there. */
  async open(url: string, viewer: Viewer = {}): Promise<WatchedPage> {
    const { colorScheme = 'light', reducedMotion = 'reduce', width = 1280, height = 900 } = viewer;
    const context = await this.#browser.newContext({
      colorScheme,
      reducedMotion,
      viewport: { width, height },
      locale: 'en-GB',
      timezoneId: 'UTC',
    });
    const watched = new WatchedPage(await context.newPage());
    await watched.page.goto(url, { waitUntil: 'domcontentloaded' });
    return watched;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

/** Starts it; it has nothing of a user's own, and reaches nothing but this machine by name. */
export async function openBrowser(): Promise<TestBrowser> {
  const executablePath = findProgram('chromium');
  if (executablePath === null) throw new Error('chromium is not installed');
  const browser = await chromium.launch({
    executablePath,
    args: [
      // Root has no sandbox there, and what is opened is our own.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-dev-shm-usage',
      '--disable-gpu',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
    ],
  });
  return new TestBrowser(browser);
}

let source: string | null = null;

function axeSource(): string {
  source ??= readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  return source;
}
