// Joins the parts of the page: the feed says what is known, once for each event it is put into the document.
import { Charts, historyNote } from './charts.ts';
import { byId, setAttribute, setShown, setText } from './dom.ts';
import { isCurrent } from './feed-machine.ts';
import { EventFeed } from './feed.ts';
import type { TokenPlace } from './feed.ts';
import { History } from './history.ts';
import { FindingsList, Panel } from './panels.ts';
import type { Picture } from './picture.ts';
import { slotTable } from './slot-table.ts';
import { rowsOf } from './standby-order.ts';
import { standbyTable } from './standby-table.ts';
import { shortVersion, upstreamName } from './summary.ts';
import { Topology } from './topology.ts';
import { WakingClock } from './waking-clock.ts';
import { freshness, headline, lossNote, sentence, visible } from './words.ts';
import { ageText } from '../src/base/human-text.ts';

const TOKEN_KEY = 'walcast-token';

/** Storage may be forbidden; then the token is kept as long as the page is open. */
function tokenPlace(): TokenPlace {
  let kept: string | null = null;
  try {
    kept = sessionStorage.getItem(TOKEN_KEY);
  } catch {
    // Forbidden.
  }
  return {
    get: () => kept,
    set: (token) => {
      kept = token;
      try {
        if (token === null) sessionStorage.removeItem(TOKEN_KEY);
        else sessionStorage.setItem(TOKEN_KEY, token);
      } catch {
        // Forbidden.
      }
    },
  };
}

/** How often ages are written anew and a sample of the history is taken, milliseconds. */
const TICK_MS = 1_000;

/** Samples are at least so far apart, milliseconds: a timer is late at times, and then early. */
const SAMPLE_MS_MIN = 900;

const NO_FLOW = { receivedRate: null, sentRate: null };

class Page {
  readonly #clock = new WakingClock(
    () => performance.now(),
    () => Date.now(),
  );
  readonly #history: History = new History();
  readonly #feed: EventFeed;
  readonly #charts: Charts = new Charts();
  readonly #topology: Topology = new Topology();
  readonly #findings: FindingsList = new FindingsList(byId('findings', HTMLUListElement));
  readonly #sync: Panel = new Panel(byId('sync', HTMLElement));
  readonly #store: Panel = new Panel(byId('store', HTMLElement));
  readonly #standbys = standbyTable(() => this.#serverNowMs());
  readonly #slots = slotTable({
    standby: (pid) => this.#picture?.standbys.get(pid) ?? null,
    serverNowMs: () => this.#serverNowMs(),
  });
  #isDrawing = false;

  constructor() {
    this.#feed = new EventFeed({
      fetch: (url, init) => fetch(url, init),
      now: () => this.#clock.now(),
      setTimer: (ms, run) => void setTimeout(run, ms),
      token: tokenPlace(),
      onChange: () => this.#heard(),
    });
    byId('charts', HTMLElement).append(this.#charts.element);
    byId('topology', HTMLElement).append(this.#topology.element);
    byId('standby-table', HTMLElement).append(this.#standbys.element);
    byId('slot-table', HTMLElement).append(this.#slots.element);
    byId('token-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      const field = byId('token', HTMLInputElement);
      const token = field.value.trim();
      field.value = '';
      if (token !== '') this.#feed.retry(token);
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () =>
      this.#charts.recolour(),
    );
  }

  start(): void {
    this.#feed.start();
    setInterval(() => this.#tick(), TICK_MS);
    this.#drawSoon();
  }

  get #picture(): Picture | null {
    return this.#feed.feed.picture;
  }

  /** The picture's own time and how long it has been known: the clocks of two machines are not compared. */
  #serverNowMs(): number {
    const { picture, currentAtMs } = this.#feed.feed;
    if (picture === null) return 0;
    const nowMs = this.#clock.now();
    // Of a time of which nothing is known nothing is said: there is the age of all that is shown.
    const upToMs = isCurrent(this.#feed.feed, nowMs) ? nowMs : (currentAtMs ?? nowMs);
    return picture.atMs + Math.max(0, upToMs - (this.#pictureSeenMs ?? upToMs));
  }

  #pictureSeenMs: number | null = null;
  #pictureSeen: Picture | null = null;

  /** When the last sample was taken. */
  #sampledMs = 0;
  /** The version of walcast that this page is of. */
  #version: string | null = null;

  #tick(): void {
    this.#sample();
    this.#drawSoon();
  }

  #heard(): void {
    const version = this.#picture?.status.version ?? null;
    // Another version has a page of its own: this one may not know what it is told.
    if (this.#version !== null && version !== this.#version) location.reload();
    this.#version = version;
    // Where nobody looks timers come once a minute, and events as ever.
    if (document.hidden) this.#sample();
    this.#drawSoon();
  }

  #sample(): void {
    const { feed } = this.#feed;
    const nowMs = this.#clock.now();
    if (feed.picture === null || nowMs - this.#sampledMs < SAMPLE_MS_MIN) return;
    this.#sampledMs = nowMs;
    this.#history.sample(isCurrent(feed, nowMs) ? feed.picture : null, Date.now());
  }

  /** A page that nobody looks at draws nothing but its title, which can be seen all the same. */
  #drawSoon(): void {
    const { picture } = this.#feed.feed;
    if (picture !== this.#pictureSeen) {
      this.#pictureSeen = picture;
      this.#pictureSeenMs = this.#clock.now();
    }
    if (document.hidden) this.#drawHead();
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      try {
        this.#draw();
      } catch (error) {
        // Figures that stand still must not look like those of now.
        document.body.setAttribute('data-feed', 'broken');
        setText(byId('headline', HTMLElement), 'This page cannot show what walcast sends');
        setText(byId('freshness', HTMLElement), 'not live: reload the page');
        throw error;
      }
    });
  }

  #draw(): void {
    const { feed } = this.#feed;
    this.#drawHead();
    this.#drawToken();
    const { picture, state } = feed;
    setShown(byId('content', HTMLElement), picture !== null);
    setShown(byId('waiting', HTMLElement), state.kind !== 'live' && state.kind !== 'token');
    const isSilent = state.kind === 'live' && !isCurrent(feed, this.#clock.now());
    setAttribute(document.body, 'data-feed', isSilent ? 'silent' : state.kind);
    if (picture !== null) this.#drawPicture(picture);
  }

  #drawHead(): void {
    const { feed } = this.#feed;
    const { picture } = feed;
    const now = this.#clock.now();
    const verdict = headline(feed, now);
    const head = byId('headline', HTMLElement);
    setText(head, verdict.text);
    setAttribute(head, 'data-tone', verdict.tone);
    setText(byId('freshness', HTMLElement), freshness(feed, now));
    setText(byId('waiting-text', HTMLElement), lossNote(feed, now));
    const name = picture === null ? '' : ` · ${upstreamName(picture)}`;
    const title = visible(`${verdict.text} · walcast${name}`);
    if (document.title !== title) document.title = title;
    setText(byId('identity', HTMLElement), picture === null ? '' : this.#identityText(picture));
  }

  #identityText({ status, upstream }: Picture): string {
    const age = ageText(this.#serverNowMs() - Date.parse(status.started_at));
    return [
      status.version,
      `system ${status.system_identifier ?? 'not known yet'}`,
      `PostgreSQL ${shortVersion(upstream.server_version ?? status.server_version)}`,
      `timeline ${status.timeline ?? 'not known yet'}`,
      `up ${age}`,
    ].join(' · ');
  }

  #drawToken(): void {
    const { state } = this.#feed.feed;
    const form = byId('token-form', HTMLFormElement);
    const isAsked = state.kind === 'token';
    const reason = isAsked ? (state.reason ?? '') : '';
    setText(
      byId('token-reason', HTMLElement),
      reason === '' ? '' : sentence(`not taken: ${reason}`),
    );
    if (form.hidden !== isAsked) return;
    setShown(form, isAsked);
    if (isAsked) byId('token', HTMLInputElement).focus();
  }

  #drawPicture(picture: Picture): void {
    const now = this.#serverNowMs();
    const isLive = isCurrent(this.#feed.feed, this.#clock.now());
    this.#findings.show(picture.status.findings, isLive);
    this.#topology.show(picture, isLive ? this.#history.flow : NO_FLOW, now);
    historyNote(byId('history-note', HTMLElement), this.#history);
    this.#charts.show(this.#history, Date.now());
    this.#standbys.show(rowsOf(picture));
    this.#slots.show(picture.slots);
    this.#sync.showSync(picture, now);
    this.#store.showStore(picture);
  }
}

new Page().start();
