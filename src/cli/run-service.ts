// Is there a service manager that wants to hear of us? What systemd puts into the environment. (sd_notify(3), sd_watchdog_enabled(3))
import { monotonicUsec } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { notifyCommand } from '../base/notify-command.ts';
import { NOTIFY_MS_MAX } from '../config/limits.ts';
import type { CommandContext } from './command.ts';
import { ServiceManager } from './service-manager.ts';

type Surroundings = Pick<CommandContext, 'env' | 'clock'>;

/** Null where nobody is to be told. */
export function openServiceManager({ env, clock }: Surroundings, log: Log): ServiceManager | null {
  const socket = env['NOTIFY_SOCKET'] ?? '';
  if (socket === '') return null;
  return new ServiceManager({
    notify: notifyCommand({ socket, path: env['PATH'], clock, timeoutMs: NOTIFY_MS_MAX }),
    watchdogMs: watchdogMs(env, process.pid),
    clock,
    monotonicUsec,
    log,
  });
}

/** How long systemd waits for a sign of life; null where it waits for none, or for that of another process. */
export function watchdogMs(env: CommandContext['env'], pid: number): number | null {
  const { WATCHDOG_USEC: usec = '', WATCHDOG_PID: of = String(pid) } = env;
  if (!/^[1-9]\d{0,15}$/.test(usec) || of !== String(pid)) return null;
  return Number(usec) / 1000;
}
