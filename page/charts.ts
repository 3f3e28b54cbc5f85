// Draws lag and throughput of the last minutes. What is drawn is said in words beside it: a canvas says nothing to who
// cannot see it.
import uPlot from 'uplot';
import { ageText } from '../src/base/human-text.ts';
import { KeyedList, make, setAttribute, setShown, setText } from './dom.ts';
import { HISTORY_SAMPLES } from './history.ts';
import type { History } from './history.ts';
import { lagWord, rateWord } from './words.ts';

/** Lines of the lag chart: more cannot be told apart. */
const LAG_LINES = 5;

/** Pixels; what comes in and what goes out are as far apart as there are standbys: one axis would hide one of them. */
const LAG_HEIGHT = 200;
const FLOW_HEIGHT = 92;

interface Line {
  readonly label: string;
  readonly values: readonly (number | null)[];
}

interface ChartParts {
  readonly title: string;
  readonly note?: string;
  readonly height: number;
  readonly lines: number;
  readonly word: (value: number | null) => string;
  /** Steps between which the axis chooses. */
  readonly steps: number[];
  /** The axis reaches at least so far. */
  readonly least: number;
}

/** All charts. */
export class Charts {
  readonly element: HTMLDivElement;
  readonly #lag: Chart = new Chart({
    title: 'Replay lag',
    note: 'From the upstream’s sending to the confirmation; the five furthest behind.',
    height: LAG_HEIGHT,
    lines: LAG_LINES,
    word: lagWord,
    steps: TIME_STEPS,
    least: 0.01,
  });
  readonly #received: Chart = new Chart({ ...FLOW, title: 'Throughput from the upstream' });
  readonly #sent: Chart = new Chart({ ...FLOW, title: 'Throughput to all standbys together' });

  constructor() {
    const flows = make('div', { children: [this.#received.element, this.#sent.element] });
    this.element = make('div', { class: 'pair', children: [this.#lag.element, flows] });
  }

  /** Draws what there is; `nowMs` is the right edge, milliseconds since the Unix epoch. */
  show(history: History, nowMs: number): void {
    const times = history.times();
    const { received, sent } = history.rates();
    const lines = history.worst(LAG_LINES).map(({ name, values }) => ({ label: name, values }));
    this.#lag.show(times, lines, nowMs);
    this.#received.show(times, [{ label: 'received', values: received }], nowMs);
    this.#sent.show(times, [{ label: 'sent', values: sent }], nowMs);
  }

  /** The colours have changed. */
  recolour(): void {
    for (const chart of [this.#lag, this.#received, this.#sent]) chart.redraw();
  }
}

class Chart {
  readonly element: HTMLElement;
  readonly #title: HTMLHeadingElement;
  readonly #parts: ChartParts;
  readonly #frame: HTMLDivElement;
  readonly #legend: KeyedList<LegendEntry, HTMLLIElement>;
  readonly #plot: uPlot;
  #times: readonly number[] = [];
  #lines: readonly Line[] = [];
  /** Sample under the pointer; null: the last one. */
  #pointed: number | null = null;

  constructor(parts: ChartParts) {
    this.#parts = parts;
    const { title, note } = parts;
    this.#frame = make('div', { class: 'plot', attributes: { role: 'img' } });
    this.#title = make('h3', { children: [title] });
    const legend = make('ul', { class: 'legend' });
    const said = note === undefined ? [] : [make('p', { class: 'note', children: [note] })];
    this.element = make('figure', {
      children: [make('figcaption', { children: [this.#title, ...said] }), this.#frame, legend],
    });
    this.#legend = new KeyedList(legend, {
      key: ({ index }) => String(index),
      make: makeLegendEntry,
      update: updateLegendEntry,
    });
    this.#plot = new uPlot(this.#options(), [[]], this.#frame);
    new ResizeObserver(() => this.#fit()).observe(this.#frame);
  }

  show(times: number[], lines: readonly Line[], nowMs: number): void {
    this.#times = times;
    this.#lines = lines;
    const values = Array.from({ length: this.#parts.lines }, (_, index) => [
      ...(lines[index]?.values ?? times.map(() => null)),
    ]);
    const max = nowMs / 1_000;
    this.#plot.batch(() => {
      this.#plot.setData([times, ...values], false);
      this.#plot.setScale('x', { min: max - HISTORY_SAMPLES, max });
      this.#plot.setScale('y', { min: 0, max: ceilingOf(values, this.#parts) });
    });
    this.#say();
  }

  redraw(): void {
    this.#plot.redraw(false, true);
  }

  #fit(): void {
    const width = this.#frame.clientWidth;
    if (width > 0) this.#plot.setSize({ width, height: this.#parts.height });
  }

  #say(): void {
    const { title, word } = this.#parts;
    const entries = this.#lines.map(({ label, values }, index) => {
      const value = values[this.#pointed ?? values.length - 1] ?? null;
      return { index, label, text: word(value) };
    });
    this.#legend.show(entries);
    const at = this.#pointed === null ? undefined : this.#times[this.#pointed];
    setText(
      this.#title,
      at === undefined ? title : `${title} at ${SECONDS_CLOCK.format(at * 1_000)}`,
    );
    const said = this.#lines.map(({ label, values }) => `${label} ${word(values.at(-1) ?? null)}`);
    const now = said.length === 0 ? 'nothing yet' : `now ${said.join(', ')}`;
    setAttribute(this.#frame, 'aria-label', `${title} over the last five minutes; ${now}`);
  }

  #options(): uPlot.Options {
    const { height, lines, word, steps } = this.#parts;
    const axis = {
      stroke: () => colour('--muted'),
      grid: { stroke: () => colour('--line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui, sans-serif',
    };
    return {
      width: 400,
      height,
      legend: { show: false },
      padding: [8, null, 0, 0],
      cursor: {
        sync: { key: 'walcast' },
        y: false,
        drag: { x: false, y: false },
        points: { size: 5 },
      },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      axes: [
        {
          ...axis,
          values: (_, splits) => splits.map(clockText),
          incrs: [60, 120, 300],
          space: 40,
          size: 28,
        },
        {
          ...axis,
          values: (_, splits) =>
            splits.map((value) => (value === 0 ? '0' : word(value).replace('.0 ', ' '))),
          incrs: steps,
          space: 20,
          size: 68,
        },
      ],
      series: [
        {},
        ...Array.from({ length: lines }, (_, index) => ({
          stroke: () => colour(`--series-${index + 1}`),
          width: 1.5,
          dash: DASHES[index] ?? [],
          points: { show: false },
        })),
      ],
      hooks: {
        setCursor: [
          (plot) => {
            this.#pointed = plot.cursor.idx ?? null;
            this.#say();
          },
        ],
      },
    };
  }
}

/** Lines differ by more than their colour. */
const DASHES: readonly (readonly number[] & number[])[] = [
  [],
  [7, 3],
  [2, 2],
  [9, 3, 2, 3],
  [4, 5],
];

const TIME_STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600,
  1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 172_800, 604_800,
];

const BYTE_STEPS = Array.from({ length: 45 }, (_, power) => 2 ** power).filter(
  (step) => step >= 256,
);

const FLOW: Omit<ChartParts, 'title'> = {
  height: FLOW_HEIGHT,
  lines: 1,
  word: rateWord,
  steps: BYTE_STEPS,
  least: 1024,
};

/** Only upward in steps, so that the axis does not move all the time. */
function ceilingOf(
  values: readonly (readonly (number | null)[])[],
  { least, steps }: ChartParts,
): number {
  let most = least;
  for (const line of values) for (const value of line) most = Math.max(most, value ?? 0);
  const step = steps.find((one) => one * 4 >= most) ?? most / 4;
  return Math.ceil((most * 1.02) / step) * step;
}

const SECONDS_CLOCK = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });

function clockText(seconds: number): string {
  return CLOCK.format(new Date(seconds * 1_000));
}

function colour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

interface LegendEntry {
  readonly index: number;
  readonly label: string;
  readonly text: string;
}

function makeLegendEntry({ index }: LegendEntry): HTMLLIElement {
  const sample = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  sample.setAttribute('class', `sample series-${index + 1}`);
  sample.setAttribute('viewBox', '0 0 28 8');
  sample.setAttribute('aria-hidden', 'true');
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  line.setAttribute('d', 'M0 4h28');
  const dash = DASHES[index] ?? [];
  if (dash.length > 0) line.setAttribute('stroke-dasharray', dash.join(' '));
  sample.append(line);
  const label = make('span', { class: 'label' });
  const value = make('span', { class: 'value' });
  const item = make('li', { children: [label, value] });
  item.prepend(sample);
  return item;
}

function updateLegendEntry(item: HTMLLIElement, { label, text }: LegendEntry): void {
  const [, name, value] = item.children;
  if (name !== undefined) setText(name, label.trim() === '' ? '(no name)' : label);
  if (value !== undefined) setText(value, text);
}

/** Says how much of the time that is drawn has been seen. */
export function historyNote(element: HTMLElement, history: History): void {
  const isFull = history.seconds >= HISTORY_SAMPLES - 1;
  setShown(element, !isFull);
  if (isFull) return;
  const seconds = Math.round(history.seconds);
  setText(
    element,
    `The history begins when this page is opened: ${ageText(seconds * 1_000)} so far.`,
  );
}
