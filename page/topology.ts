// The way of WAL: upstream, walcast, standbys, and on each edge how it stands with it.
import { Facts, KeyedList, make, setAttribute, setShown, setText } from './dom.ts';
import type { Picture } from './picture.ts';
import {
  lagSecondsOf,
  nameOf,
  rowsOf,
  sortRows,
  stateWord,
  syncWord,
  toneOf,
} from './standby-order.ts';
import type { StandbyRow } from './standby-order.ts';
import {
  endAsOf,
  fanOut,
  relayFacts,
  restWord,
  upstreamEdge,
  upstreamFacts,
  upstreamName,
} from './summary.ts';
import type { Edge, Rates } from './summary.ts';
import { bytesWord, countWord, lagWord, rateWord } from './words.ts';

/** Standbys that are drawn: the worst; the table has all. */
const DRAWN_MAX = 8;

/** The drawing. It is a list of steps to who cannot see it. */
export class Topology {
  readonly element: HTMLDivElement;
  readonly #upstream: NodeBox = new NodeBox('Upstream');
  readonly #relay: NodeBox = new NodeBox('Relay');
  readonly #edge: EdgeLine = new EdgeLine();
  readonly #detail: HTMLParagraphElement = make('p', { class: 'detail' });
  readonly #total: HTMLParagraphElement = make('p', { class: 'total' });
  readonly #fan: HTMLUListElement = make('ul', { class: 'fan' });
  readonly #more: HTMLParagraphElement = make('p', { class: 'more' });
  readonly #list: KeyedList<StandbyRow, HTMLLIElement>;

  constructor() {
    const step = (name: string, ...children: HTMLElement[]): HTMLLIElement =>
      make('li', { class: name, children });
    const steps = make('ol', {
      class: 'topology',
      children: [
        step('step', this.#upstream.element),
        step('step-edge', this.#edge.element),
        step('step', this.#relay.element),
        step('step-fan', this.#total, this.#fan, this.#more),
      ],
    });
    this.element = make('div', { children: [steps, this.#detail] });
    this.#list = new KeyedList(this.#fan, {
      key: ({ key }) => key,
      make: makeBranch,
      update: updateBranch,
    });
  }

  /** Shows this; `nowMs` by the clock of walcast. */
  show(picture: Picture, rates: Rates, nowMs: number): void {
    this.#upstream.show(upstreamName(picture), upstreamFacts(picture));
    this.#relay.show(`walcast ${picture.status.version}`, relayFacts(picture));
    this.#edge.show(upstreamEdge(picture, rates, nowMs));
    const rows = sortRows(rowsOf(picture), 'worst', false);
    const drawn = rows.slice(0, rows.length > DRAWN_MAX ? DRAWN_MAX - 1 : DRAWN_MAX);
    this.#list.show(drawn);
    setText(this.#total, totalText(picture, rates, endAsOf(picture, nowMs)));
    const rest = rows.slice(drawn.length);
    setShown(this.#more, rest.length > 0);
    setText(this.#more, rest.length > 0 ? restWord(rest) : '');
    const detail = untoldDetail(picture);
    setShown(this.#detail, detail !== null);
    setText(this.#detail, detail ?? '');
  }
}

/** Why it is as it is, unless a finding says so already. */
function untoldDetail({ upstream, status }: Picture): string | null {
  const detail = upstream.detail ?? status.detail;
  if (detail === null) return null;
  const isTold = status.findings.some(({ message }) =>
    message.includes(detail.replace(/[.?!]$/, '')),
  );
  return isTold ? null : detail;
}

function totalText({ standbys }: Picture, rates: Rates, asOf: string | null): string {
  const factor = fanOut(rates);
  const out = rates.sentRate === null ? '' : `, ${rateWord(rates.sentRate)} to all of them`;
  const times = factor === null ? '' : `, ${factor.toFixed(1)} times what comes in`;
  const end = asOf === null ? '' : `; behind the end of the upstream’s WAL ${asOf}`;
  return standbys.size === 0
    ? 'No standby is connected'
    : `${countWord(standbys.size, 'standby')} connected${out}${times}${end}`;
}

class NodeBox {
  readonly element: HTMLDivElement;
  readonly #name: HTMLParagraphElement = make('p', { class: 'name' });
  readonly #facts: Facts = new Facts();

  constructor(role: string) {
    const title = make('h3', { children: [role] });
    this.element = make('div', {
      class: 'node',
      children: [title, this.#name, this.#facts.element],
    });
  }

  show(name: string, facts: Parameters<Facts['show']>[0]): void {
    setText(this.#name, name);
    this.#facts.show(facts);
  }
}

interface Figure {
  readonly index: number;
  readonly text: string;
}

class EdgeLine {
  readonly element: HTMLDivElement;
  readonly #state: HTMLElement = make('span', { class: 'state' });
  readonly #list: KeyedList<Figure, HTMLSpanElement>;

  constructor() {
    const figures = make('span', { class: 'figures' });
    this.element = make('div', { class: 'edge', children: [this.#state, figures] });
    this.#list = new KeyedList(figures, {
      key: ({ index }) => String(index),
      make: () => make('span'),
      update: (element, { text }) => setText(element, text),
    });
  }

  show({ state, tone, figures }: Edge): void {
    setText(this.#state, state);
    setAttribute(this.element, 'data-tone', tone);
    this.#list.show(figures.map((text, index) => ({ text, index })));
  }
}

function makeBranch(): HTMLLIElement {
  const edge = new EdgeLine();
  const name = make('span', { class: 'name' });
  const sync = make('span', { class: 'sync' });
  const item = make('li', { children: [edge.element, name, sync] });
  BRANCHES.set(item, { edge, name, sync });
  return item;
}

interface Branch {
  readonly edge: EdgeLine;
  readonly name: HTMLElement;
  readonly sync: HTMLElement;
}

const BRANCHES = new WeakMap<HTMLLIElement, Branch>();

function updateBranch(item: HTMLLIElement, row: StandbyRow): void {
  const branch = BRANCHES.get(item);
  if (branch === undefined) return;
  const figures =
    row.kind === 'here'
      ? [lagWord(lagSecondsOf(row.standby)), `${bytesWord(row.standby.lag_bytes)} behind`]
      : [];
  branch.edge.show({ state: stateWord(row), tone: toneOf(row), figures });
  setText(branch.name, nameOf(row.standby));
  setText(branch.sync, syncWord(row));
}
