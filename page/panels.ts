// What needs attention, the policy and the store, as elements.
import type { FindingJson } from '../src/http/api-types.ts';
import { Facts, KeyedList, make, setAttribute, setShown, setText } from './dom.ts';
import type { Picture } from './picture.ts';
import { storeFacts, syncFacts } from './summary.ts';
import { policyState, policyWord, sentence } from './words.ts';

/** Findings, the worst first, each with its next step. */
export class FindingsList {
  readonly #list: KeyedList<FindingItem, HTMLLIElement>;

  constructor(element: HTMLUListElement) {
    this.#list = new KeyedList(element, {
      key: ({ key }) => key,
      make: makeFinding,
      update: updateFinding,
    });
  }

  /** `isCurrent`: they are those of now. */
  show(findings: readonly FindingJson[], isCurrent: boolean): void {
    const seen = new Map<string, number>();
    const items = findings.map((finding) => {
      const name = JSON.stringify([finding.code, finding.subject]);
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      return { key: `${name} ${count}`, finding };
    });
    if (items.length > 0) this.#list.show(items);
    else this.#list.show([isCurrent ? NOTHING : NOTHING_THEN]);
  }
}

interface FindingItem {
  readonly key: string;
  readonly finding: FindingJson | null;
}

const NOTHING: FindingItem = { key: 'nothing', finding: null };
const NOTHING_THEN: FindingItem = { key: 'nothing then', finding: null };

const NOTHING_WORDS: Readonly<Record<string, string>> = {
  [NOTHING.key]: 'nothing is the matter',
  [NOTHING_THEN.key]: 'nothing was the matter when the connection was lost',
};

function makeFinding(): HTMLLIElement {
  return make('li', {
    children: [
      make('span', { class: 'severity' }),
      make('div', {
        children: [
          make('p', { class: 'message' }),
          make('p', { class: 'next' }),
          make('p', { class: 'runbook' }),
        ],
      }),
    ],
  });
}

function updateFinding(item: HTMLLIElement, { key, finding }: FindingItem): void {
  const [severity, body] = item.children;
  const [message, next, runbook] = body?.children ?? [];
  if (severity === undefined || message === undefined) return;
  setAttribute(item, 'data-severity', finding?.severity ?? 'none');
  setText(severity, finding?.severity ?? 'none');
  setText(message, sentence(finding?.message ?? NOTHING_WORDS[key] ?? ''));
  if (next instanceof HTMLElement) {
    setText(next, finding?.next_step ?? '');
    setShown(next, finding !== null);
  }
  if (runbook instanceof HTMLElement) {
    const alert = finding?.alert ?? null;
    setText(runbook, alert === null ? '' : `Runbook: docs/runbooks/${alert}.md`);
    setShown(runbook, alert !== null);
  }
}

/** Policy and store. */
export class Panel {
  readonly #lead: HTMLParagraphElement = make('p', { class: 'lead' });
  readonly #code: HTMLElement = make('code');
  readonly #policy: HTMLParagraphElement = make('p', { class: 'policy', children: [this.#code] });
  readonly #alarms: HTMLUListElement = make('ul', { class: 'alarms' });
  readonly #facts: Facts = new Facts();
  readonly #alarmList: KeyedList<string, HTMLLIElement>;

  constructor(parent: HTMLElement) {
    this.#alarmList = new KeyedList(this.#alarms, {
      key: (text) => text,
      make: () => make('li'),
      update: setText,
    });
    parent.append(this.#lead, this.#policy, this.#alarms, this.#facts.element);
  }

  /** Which policy there is, and whether it holds. */
  showSync(picture: Picture, nowMs: number): void {
    const { sync } = picture;
    const state = policyState(sync);
    setText(this.#lead, sync.method === null ? policyWord(sync) : `Policy ${state.text}`);
    setAttribute(this.#lead, 'data-tone', sync.method === null ? null : state.tone);
    setShown(this.#policy, sync.method !== null);
    setText(this.#code, policyWord(sync));
    const alarms = sync.clash === null ? sync.alarms : [...sync.alarms, sync.clash];
    this.#alarmList.show([...new Set(alarms)]);
    this.#facts.show(syncFacts(picture, nowMs));
  }

  /** What is kept. */
  showStore(picture: Picture): void {
    const { store } = picture;
    setShown(this.#policy, false);
    setShown(this.#lead, store.near_limit);
    setText(this.#lead, store.near_limit ? 'Near its limit' : '');
    setAttribute(this.#lead, 'data-tone', 'bad');
    this.#facts.show(storeFacts(picture));
  }
}
