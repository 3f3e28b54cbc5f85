// A table of many rows that stays usable: sorted, filtered, twenty-five at a time, each row with details behind a button.
import { Facts, KeyedList, make, setAttribute, setShown, setText } from './dom.ts';
import type { Fact } from './words.ts';

/** Rows at a time. */
const ROWS_A_PAGE = 25;

/** One column. */
export interface Column<R> {
  readonly title: string;
  /** For what the title alone does not say. */
  readonly hint?: string;
  /** `figure`: aligned at the right; `position`: an LSN; `chosen`: a name of any length, broken where it has to be. */
  readonly kind?: 'figure' | 'position' | 'chosen';
  /** Where there is room for it only: `wide`, `medium`; else always. */
  readonly room?: 'wide' | 'medium';
  /** What clicking on the title sorts by. */
  readonly sort?: string;
  readonly text: (row: R) => string;
  readonly tone?: (row: R) => string | null;
}

/** One order. */
export interface Order {
  readonly key: string;
  readonly title: string;
  /** Which way it goes when it is not reversed, for who cannot see it. */
  readonly direction: 'ascending' | 'descending';
}

/** What a table is made of. The first column names the row. */
export interface TableParts<R> {
  readonly caption: string;
  readonly noun: string;
  readonly columns: readonly Column<R>[];
  /** Orders by what can be chosen, the first is the one to begin with. */
  readonly orders: readonly Order[];
  readonly key: (row: R) => string;
  readonly sort: (rows: readonly R[], key: string, isReversed: boolean) => readonly R[];
  readonly filter: (rows: readonly R[], text: string) => readonly R[];
  readonly details: (row: R) => readonly Fact[];
  /** What one may filter by. */
  readonly placeholder: string;
  /** What is said where there are none at all. */
  readonly empty: string;
}

/** Ids have to differ within the page. */
let ids = 0;

/** One table, with what it is controlled by. */
export class DataTable<R> {
  readonly element: HTMLDivElement;
  readonly #parts: TableParts<R>;
  readonly #list: KeyedList<R, HTMLTableSectionElement>;
  readonly #controls: TableControls;
  readonly #empty: HTMLParagraphElement;
  readonly #frame: HTMLDivElement;
  readonly #headers: ReadonlyMap<string, HTMLTableCellElement>;
  readonly #open: Set<string> = new Set();
  readonly #details: WeakMap<HTMLTableRowElement, Facts> = new WeakMap();
  #rows: readonly R[] = [];
  #page = 0;
  #order: string;
  #isReversed = false;

  constructor(parts: TableParts<R>) {
    this.#parts = parts;
    this.#order = parts.orders[0]?.key ?? '';
    const prefix = `table-${(ids += 1)}`;
    this.#controls = makeControls(parts, prefix);
    const table = make('table', { children: [make('caption', { children: [parts.caption] })] });
    const [head, headers] = makeHead(parts, (key) => this.#sortBy(key, key === this.#order));
    this.#headers = headers;
    table.append(head);
    this.#frame = make('div', { class: 'frame', children: [table] });
    this.#empty = make('p', { class: 'note', children: [parts.empty] });
    this.element = make('div', { children: [this.#controls.element, this.#empty, this.#frame] });
    this.#list = new KeyedList(table, {
      key: parts.key,
      behind: head,
      make: (row) => this.#makeRow(row),
      update: (body, row) => this.#updateRow(body, row),
    });
    this.#listen();
  }

  /** Shows these rows as it was chosen. */
  show(rows: readonly R[]): void {
    this.#rows = rows;
    this.#render();
  }

  #listen(): void {
    const { element, count, filter, order, previous, next } = this.#controls;
    // Said to who changes what is shown; standbys that come and go would never let a reader finish.
    element.addEventListener('focusin', () => setAttribute(count, 'aria-live', 'polite'));
    element.addEventListener('focusout', () => setAttribute(count, 'aria-live', 'off'));
    filter.addEventListener('input', () => this.#turnTo(0));
    order.addEventListener('change', () => this.#sortBy(order.value, false));
    previous.addEventListener('click', () => this.#turnTo(this.#page - 1));
    next.addEventListener('click', () => this.#turnTo(this.#page + 1));
  }

  #turnTo(page: number): void {
    this.#page = page;
    this.#render();
  }

  #sortBy(key: string, isAgain: boolean): void {
    this.#isReversed = isAgain ? !this.#isReversed : false;
    this.#order = key;
    this.#controls.order.value = key;
    this.#turnTo(0);
  }

  #render(): void {
    const { sort, filter, noun } = this.#parts;
    const controls = this.#controls;
    const matching = filter(this.#rows, controls.filter.value);
    const found = sort(matching, this.#order, this.#isReversed);
    const pages = Math.max(1, Math.ceil(found.length / ROWS_A_PAGE));
    this.#page = Math.min(Math.max(0, this.#page), pages - 1);
    const start = this.#page * ROWS_A_PAGE;
    const shown = found.slice(start, start + ROWS_A_PAGE);
    this.#list.show(shown);
    const range =
      pages === 1 ? `${found.length}` : `${start + 1}–${start + shown.length} of ${found.length}`;
    const all = found.length === this.#rows.length ? '' : ` (of ${this.#rows.length} in all)`;
    setText(controls.count, `${range} ${noun}${found.length === 1 ? '' : 's'}${all}`);
    setShown(controls.previous, pages > 1);
    setShown(controls.next, pages > 1);
    setDisabled(controls.previous, this.#page === 0);
    setDisabled(controls.next, this.#page === pages - 1);
    setShown(this.#empty, this.#rows.length === 0);
    setShown(this.#frame, this.#rows.length > 0);
    setShown(controls.element, this.#rows.length > 0);
    this.#markHeaders();
  }

  #markHeaders(): void {
    const order = this.#parts.orders.find(({ key }) => key === this.#order);
    const isAscending = (order?.direction === 'ascending') !== this.#isReversed;
    for (const [key, header] of this.#headers) {
      const direction = isAscending ? 'ascending' : 'descending';
      setAttribute(header, 'aria-sort', key === this.#order ? direction : null);
    }
  }

  #makeRow(row: R): HTMLTableSectionElement {
    const key = this.#parts.key(row);
    const cells = this.#parts.columns.map((column, index) =>
      index === 0 ? make('th', { attributes: { scope: 'row' } }) : makeCell(column),
    );
    const id = `details-${(ids += 1)}`;
    const toggle = make('button', {
      class: 'toggle',
      attributes: { type: 'button', 'aria-expanded': 'false', 'aria-controls': id },
    });
    cells[0]?.append(toggle);
    const details = make('tr', { class: 'details', attributes: { id, hidden: '' } });
    const body = make('tbody', { children: [make('tr', { children: cells }), details] });
    toggle.addEventListener('click', () => {
      if (!this.#open.delete(key)) this.#open.add(key);
      this.#render();
    });
    return body;
  }

  #updateRow(body: HTMLTableSectionElement, row: R): void {
    const { columns, key } = this.#parts;
    const [line, details] = [body.rows[0], body.rows[1]];
    if (line === undefined || details === undefined) return;
    columns.forEach((column, index) => {
      const cell = line.cells[index];
      if (cell === undefined) return;
      setText(index === 0 ? (cell.firstElementChild ?? cell) : cell, column.text(row));
      setAttribute(cell, 'data-tone', column.tone?.(row) ?? null);
    });
    const isOpen = this.#open.has(key(row));
    setAttribute(line.cells[0]?.firstElementChild ?? line, 'aria-expanded', String(isOpen));
    setShown(details, isOpen);
    if (isOpen) this.#showDetails(details, row);
  }

  #showDetails(line: HTMLTableRowElement, row: R): void {
    let facts = this.#details.get(line);
    if (facts === undefined) {
      facts = new Facts();
      this.#details.set(line, facts);
      const colspan = String(this.#parts.columns.length);
      line.replaceChildren(make('td', { attributes: { colspan }, children: [facts.element] }));
    }
    facts.show(this.#parts.details(row));
  }
}

function makeCell<R>(column: Column<R>): HTMLTableCellElement {
  return make('td', { class: classOf(column) });
}

function classOf<R>({ kind, room }: Column<R>): string {
  return [kind ?? '', room === undefined ? '' : `room-${room}`].filter(Boolean).join(' ');
}

/** It keeps the focus: what is pressed until the last page does not throw its user out of the table. */
function setDisabled(button: HTMLButtonElement, isDisabled: boolean): void {
  setAttribute(button, 'aria-disabled', isDisabled ? 'true' : null);
}

interface TableControls {
  readonly element: HTMLDivElement;
  readonly filter: HTMLInputElement;
  readonly order: HTMLSelectElement;
  readonly count: HTMLElement;
  readonly previous: HTMLButtonElement;
  readonly next: HTMLButtonElement;
}

function makeControls<R>(parts: TableParts<R>, prefix: string): TableControls {
  const { orders, noun, caption, placeholder } = parts;
  const filter = make('input', {
    attributes: {
      id: `${prefix}-filter`,
      type: 'search',
      autocomplete: 'off',
      spellcheck: 'false',
      placeholder,
    },
  });
  const order = make('select', {
    attributes: { id: `${prefix}-order` },
    children: orders.map(({ key, title }) =>
      make('option', { attributes: { value: key }, children: [title] }),
    ),
  });
  const count = make('p', { class: 'count', attributes: { role: 'status', 'aria-live': 'off' } });
  const previous = make('button', { attributes: { type: 'button' }, children: ['Previous'] });
  const next = make('button', { attributes: { type: 'button' }, children: ['Next'] });
  const element = make('div', {
    class: 'controls',
    attributes: { role: 'group', 'aria-label': `${caption}: what is shown` },
    children: [
      make('div', {
        class: 'field',
        children: [
          make('label', {
            attributes: { for: `${prefix}-filter` },
            children: [`Filter ${noun}s`],
          }),
          filter,
        ],
      }),
      make('div', {
        class: 'field',
        children: [
          make('label', { attributes: { for: `${prefix}-order` }, children: ['Sort'] }),
          order,
        ],
      }),
      count,
      make('div', { class: 'pager', children: [previous, next] }),
    ],
  });
  return { element, filter, order, count, previous, next };
}

function makeHead<R>(
  { columns }: TableParts<R>,
  onSort: (key: string) => void,
): [HTMLTableSectionElement, Map<string, HTMLTableCellElement>] {
  const headers = new Map<string, HTMLTableCellElement>();
  const cells = columns.map((column) => {
    const { title, sort, hint } = column;
    const cell = make('th', { class: classOf(column), attributes: { scope: 'col' } });
    if (hint !== undefined) cell.title = hint;
    if (sort === undefined) {
      cell.append(title);
      return cell;
    }
    const button = make('button', { attributes: { type: 'button' }, children: [title] });
    button.addEventListener('click', () => onSort(sort));
    cell.append(button);
    headers.set(sort, cell);
    return cell;
  });
  return [make('thead', { children: [make('tr', { children: cells })] }), headers];
}
