// How is SHOW answered?
import { textCell } from './cells.ts';
import { TEXT } from './columns.ts';
import type { ResultColumn, Row } from './columns.ts';
import type { SelectContext } from './select.ts';
import type { ConsoleSettings } from './settings.ts';
import { REPORTS } from './show-reports.ts';
import type { View } from './view.ts';

/** A SHOW that can be run. */
export interface PreparedShow {
  readonly columns: readonly ResultColumn[];
  rows(): Row[];
}

/** What SHOW works with. */
export interface ShowContext {
  readonly settings: ConsoleSettings;
  readonly select: SelectContext;
}

/** Throws ConsoleError 42704 for a name that nobody knows. */
export function prepareShow(name: string, { settings, select }: ShowContext): PreparedShow {
  const report = REPORTS.get(name);
  if (report !== undefined) return wholeView(report, select);
  if (name === 'all') return allSettings(settings);
  // Asked once before, so that an unknown one is refused when it is parsed.
  settings.show(name);
  return {
    columns: [{ name: settings.spelling(name), type: TEXT }],
    rows: () => [[textCell(settings.show(name))]],
  };
}

function wholeView(view: View, { source, budget }: SelectContext): PreparedShow {
  return {
    columns: view.columns,
    rows: () => {
      const rows = view.rows(source());
      budget.look(rows.length, view.columns.length, view.isGrowing);
      return rows.map((row) => view.columns.map((_, index) => row(index)));
    },
  };
}

function allSettings(settings: ConsoleSettings): PreparedShow {
  const titles = ['name', 'setting', 'description'];
  return {
    columns: titles.map((title) => ({ name: title, type: TEXT })),
    rows: () =>
      settings
        .all()
        .map(([key, value]) => [textCell(settings.spelling(key)), textCell(value), textCell('')]),
  };
}
