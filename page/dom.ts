// Puts text and elements into the document, and touches only what has changed: a screen reader and a selection stay where
// they are.
import { visible } from './words.ts';
import type { Fact } from './words.ts';

/** What an element is made with: attributes, and its children. */
export interface Parts {
  readonly class?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly children?: readonly (Node | string)[];
}

/** A new element. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  parts: Parts = {},
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (parts.class !== undefined) element.className = parts.class;
  for (const [name, value] of Object.entries(parts.attributes ?? {})) {
    element.setAttribute(name, value);
  }
  element.append(...(parts.children ?? []));
  return element;
}

/** The element of the page with this id, which is of this kind. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`the page has no such element: ${id}`);
  return element;
}

/** Says it, unless it is said already. Nothing in it can hide, or turn round what stands beside it. */
export function setText(element: Element, text: string): void {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** Sets an attribute, unless it is so already; null takes it away. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  const shown = value === null ? null : visible(value);
  if (element.getAttribute(name) === shown) return;
  if (shown === null) element.removeAttribute(name);
  else element.setAttribute(name, shown);
}

/** Shows or hides. */
export function setShown(element: HTMLElement, isShown: boolean): void {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/** How a list of items becomes a list of elements. */
export interface Listing<T, E extends Element> {
  readonly key: (item: T) => string;
  readonly make: (item: T) => E;
  readonly update: (element: E, item: T) => void;
  /** Elements of the same parent that come before all items. */
  readonly behind?: Element;
}

/** Keeps the children of one element in step with a list: an item that stays keeps its element, and so its focus. */
export class KeyedList<T, E extends Element> {
  readonly #parent: Element;
  readonly #listing: Listing<T, E>;
  #elements: Map<string, E> = new Map();

  constructor(parent: Element, listing: Listing<T, E>) {
    this.#parent = parent;
    this.#listing = listing;
  }

  /** Shows these, in this order; keys have to differ. */
  show(items: readonly T[]): void {
    const { key, make: create, update } = this.#listing;
    const elements = new Map<string, E>();
    for (const item of items) {
      const name = key(item);
      const element = this.#elements.get(name) ?? create(item);
      update(element, item);
      elements.set(name, element);
    }
    for (const [name, element] of this.#elements) {
      if (!elements.has(name)) element.remove();
    }
    this.#elements = elements;
    this.#order([...elements.values()]);
  }

  /** Moves only what is not in its place: moving an element takes the focus from it, so it gets it back. */
  #order(wanted: readonly E[]): void {
    const { behind } = this.#listing;
    const { activeElement: focused } = document;
    let next = behind === undefined ? this.#parent.firstChild : behind.nextSibling;
    for (const element of wanted) {
      if (next === element) next = next.nextSibling;
      else this.#parent.insertBefore(element, next);
    }
    if (focused instanceof HTMLElement && focused !== document.activeElement) {
      focused.focus({ preventScroll: true });
    }
  }
}

/** A list of terms and what is to be said of each; made once, filled again and again. */
export class Facts {
  readonly element: HTMLDListElement = make('dl');
  readonly #list: KeyedList<Fact, HTMLDivElement>;

  constructor() {
    this.#list = new KeyedList(this.element, {
      key: ([term]) => term,
      make: ([term]) => make('div', { children: [make('dt', { children: [term] }), make('dd')] }),
      update: (element, [, text, tone]) => {
        const value = element.lastElementChild;
        if (value === null) return;
        setText(value, text);
        setAttribute(value, 'data-tone', tone ?? null);
      },
    });
  }

  show(facts: readonly Fact[]): void {
    this.#list.show(facts);
  }
}
