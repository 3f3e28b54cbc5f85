// What the demonstration shows: progress lines while it starts, then one table that is drawn over itself on a terminal,
// or a line every few seconds elsewhere.
import { megabytes } from './demo-cluster.ts';

/** One row of `GET /api/v1/standbys`, as far as the table shows it. */
export interface StandbyRow {
  readonly application_name: string;
  readonly state: string;
  readonly sync_state: string | null;
  readonly sent_lsn: string | null;
  readonly flush_lsn: string | null;
  readonly replay_lsn: string | null;
  readonly lag_bytes: number | null;
  readonly replay_lag: number | null;
}

/** What is shown at one moment. */
export interface DemoPicture {
  readonly state: string;
  readonly primaryLsn: string;
  readonly storedLsn: string | null;
  readonly commits: number;
  readonly standbys: readonly StandbyRow[];
}

/** Where text goes. */
export interface TextOutput {
  readonly isTTY?: boolean | undefined;
  write(text: string): unknown;
}

const HEAD = ['standby', 'state', 'sync', 'sent', 'flush', 'replay', 'lag', 'replay lag'];
const LINE_EVERY_MS = 5_000;

/** Shows progress and pictures on `output`; `isQuiet` (for --json) shows nothing. */
export class DemoScreen {
  readonly #output: TextOutput;
  readonly #isQuiet: boolean;
  #drawnLines = 0;
  #isProgressOpen = false;
  #lastLineAtMs = Number.NEGATIVE_INFINITY;

  constructor(output: TextOutput, options: { isQuiet: boolean }) {
    this.#output = output;
    this.#isQuiet = options.isQuiet;
  }

  /** A line that stays. */
  say(text: string): void {
    if (this.#isQuiet) return;
    this.#closeProgress();
    this.#drawnLines = 0;
    this.#output.write(`${text}\n`);
  }

  /** A line that is overwritten by the next one; elsewhere than on a terminal only {@link say} is heard. */
  progress(text: string): void {
    if (this.#isQuiet || this.#output.isTTY !== true) return;
    this.#output.write(`\r\u001B[2K${text}`);
    this.#isProgressOpen = true;
  }

  /** Draws the picture; `nowMs` is a monotonic time and paces the lines outside a terminal. */
  draw(picture: DemoPicture, nowMs: number): void {
    if (this.#isQuiet) return;
    this.#closeProgress();
    if (this.#output.isTTY === true) {
      this.#drawOver(tableLines(picture));
    } else if (nowMs - this.#lastLineAtMs >= LINE_EVERY_MS) {
      this.#lastLineAtMs = nowMs;
      this.#output.write(`${summaryLine(picture)}\n`);
    }
  }

  /** The last picture, as a table that stays. */
  final(picture: DemoPicture): void {
    if (this.#isQuiet) return;
    this.#closeProgress();
    if (this.#output.isTTY === true) this.#drawOver(tableLines(picture));
    else this.#output.write(`${tableLines(picture).join('\n')}\n`);
    this.#drawnLines = 0;
  }

  #drawOver(lines: readonly string[]): void {
    const back = this.#drawnLines === 0 ? '' : `\u001B[${this.#drawnLines}A`;
    this.#output.write(back + lines.map((line) => `\u001B[2K${line}\n`).join(''));
    this.#drawnLines = lines.length;
  }

  #closeProgress(): void {
    if (this.#isProgressOpen) this.#output.write('\r\u001B[2K');
    this.#isProgressOpen = false;
  }
}

/** The picture as lines of a table. */
export function tableLines(picture: DemoPicture): string[] {
  const rows = [HEAD, ...picture.standbys.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const head =
    `walcast ${picture.state} · primary at ${picture.primaryLsn} · stored to ${picture.storedLsn ?? '-'} · ` +
    `${picture.commits} commits`;
  return [
    head,
    ...rows.map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    ),
  ];
}

function cells(row: StandbyRow): string[] {
  return [
    row.application_name,
    row.state,
    row.sync_state ?? '-',
    row.sent_lsn ?? '-',
    row.flush_lsn ?? '-',
    row.replay_lsn ?? '-',
    row.lag_bytes === null ? '-' : megabytes(row.lag_bytes),
    row.replay_lag === null ? '-' : `${row.replay_lag.toFixed(3)} s`,
  ];
}

function summaryLine(picture: DemoPicture): string {
  const standbys = picture.standbys.map(
    (row) => `${row.application_name} ${row.state} replay ${row.replay_lsn ?? '-'}`,
  );
  return `walcast ${picture.state}, primary at ${picture.primaryLsn}, ${picture.commits} commits; ${standbys.join('; ')}`;
}
