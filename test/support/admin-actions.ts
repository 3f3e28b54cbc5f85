// What the console changes of a relay: written down, and answered as a test says.
import type { AdminParts } from '../../src/console/admin-desk.ts';
import type { ActionRefusal, ReloadReport } from '../../src/status/actions.ts';

type DeskActions = AdminParts['actions'];

/** Actions of a relay that is none. */
export class AdminActions implements DeskActions {
  readonly done: string[] = [];
  refusal: ActionRefusal | null = null;
  report: ReloadReport = { problems: [], changed: [], pendingRestart: [] };
  isPaused = false;
  isDraining = false;
  /** What comes in between while a configuration is read. */
  onReload: () => void = () => {};
  /** What those wait for that have to wait. */
  gate: Promise<void> = Promise.resolve();
  disconnect: (pid: number) => boolean = () => false;

  async reload(): Promise<ReloadReport> {
    this.done.push('reload');
    await this.gate;
    this.onReload();
    return this.report;
  }

  drain(): void {
    this.done.push('drain');
  }

  shutdown(): void {
    this.done.push('shutdown');
  }

  pause(): void {
    this.done.push('pause');
    this.isPaused = true;
  }

  resume(): void {
    this.done.push('resume');
    this.isPaused = false;
  }

  reconnect(): ActionRefusal | null {
    this.done.push('reconnect');
    return this.refusal;
  }

  async createSlot(name: string, options: { reserveWal: boolean }): Promise<ActionRefusal | null> {
    this.done.push(`create ${name}${options.reserveWal ? ' with WAL' : ''}`);
    await this.gate;
    return this.refusal;
  }

  async dropSlot(name: string): Promise<ActionRefusal | null> {
    this.done.push(`drop ${name}`);
    await this.gate;
    return this.refusal;
  }

  setLogLevel(component: string, level: string | null): ActionRefusal | null {
    this.done.push(`log level ${component} ${level ?? 'as configured'}`);
    return this.refusal;
  }

  disconnectStandby(pid: number): boolean {
    this.done.push(`disconnect ${pid}`);
    return this.disconnect(pid);
  }
}
