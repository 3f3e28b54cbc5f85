// What does `systemctl start walcast` do? Enough of it for the guide's commands, on machines without systemd: it carries out what
// the unit file says, as its user, and waits as systemd would. Usage: systemctl.mjs start|stop|restart|reload|status|is-active walcast, kill -s SIGNAL walcast,
// show -P MainPID walcast
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const UNIT = '/etc/systemd/system/walcast.service';
const PID_FILE = '/run/walcast.pid';
const LOG_FILE = '/run/walcast.log';
const STARTED = 'http://127.0.0.1:9188/startupz';
const WAIT_MS = 60_000;
const POLL_MS = 20;

const [action, ...rest] = process.argv.slice(2);
const name = rest.at(-1);
if (name !== 'walcast' && name !== 'walcast.service') fail(`Unit ${name} could not be found.`);
const unit = readFileSync(UNIT, 'utf8').replaceAll('\\\n', ' ');

if (action === 'start') await start();
else if (action === 'stop') await stop();
else if (action === 'restart') {
  await stop();
  await start();
} else if (action === 'reload') reload();
else if (action === 'kill') process.kill(mainPid(), rest[1]);
else if (action === 'show') process.stdout.write(`${mainPid() ?? 0}\n`);
else if (action === 'status')
  process.stdout.write(`walcast.service: ${isActive() ? 'active' : 'inactive'}, ${mainPid()}\n`);
else if (action === 'is-active') process.exit(isActive() ? 0 : 3);
else fail(`Unknown command verb ${action}.`);

async function start() {
  if (isActive()) return;
  const log = openSync(LOG_FILE, 'a');
  const child = spawn('setpriv', [...identity(), '--', ...command('ExecStart')], {
    cwd: value('WorkingDirectory') || '/',
    env: { PATH: process.env.PATH, HOME: '/var/lib/walcast', ...environment() },
    stdio: ['ignore', log, log],
    detached: true,
  });
  closeSync(log);
  writeFileSync(PID_FILE, `${child.pid}\n`);
  const from = Date.now();
  while (child.exitCode === null) {
    const answer = await fetch(STARTED).catch(() => null);
    if (answer?.ok === true) process.exit(0);
    if (Date.now() - from > WAIT_MS) fail('Job for walcast.service timed out.');
    await pause(POLL_MS);
  }
  rmSync(PID_FILE);
  fail(`Job for walcast.service failed.\n${readFileSync(LOG_FILE, 'utf8').slice(-4_000)}`);
}

async function stop() {
  const pid = mainPid();
  if (pid === null) return;
  process.kill(pid, value('KillSignal') || 'SIGTERM');
  const from = Date.now();
  while (isActive()) {
    if (Date.now() - from > WAIT_MS) fail('walcast.service: State stop-sigterm timed out.');
    await pause(POLL_MS);
  }
  rmSync(PID_FILE, { force: true });
}

function reload() {
  const pid = mainPid();
  if (pid === null) fail('walcast.service is not active, cannot reload.');
  const command = value('ExecReload');
  // Type=notify-reload: SIGHUP is sent by systemd itself.
  if (command === '') process.kill(pid, 'SIGHUP');
  else {
    const [program, ...args] = words(command.replaceAll('$MAINPID', String(pid)));
    if (spawnSync(program, args, { stdio: 'inherit' }).status !== 0) fail('the reload failed');
  }
}

function isActive() {
  return mainPid() !== null;
}

/** Of a process that is there and no zombie. */
function mainPid() {
  if (!existsSync(PID_FILE)) return null;
  const pid = Number(readFileSync(PID_FILE, 'utf8'));
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')) ? null : pid;
  } catch {
    return null;
  }
}

/** The Node.js that runs the tests stands in for the system's. */
function command(key) {
  const [program, ...args] = words(value(key));
  return [program === '/usr/bin/node' ? process.execPath : program, ...args];
}

function identity() {
  const user = value('User');
  const group = value('Group') || user;
  return user === '' ? [] : ['--reuid', user, '--regid', group, '--clear-groups', '--no-new-privs'];
}

function environment() {
  return Object.fromEntries(
    values('Environment')
      .flatMap(words)
      .map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
  );
}

function value(key) {
  return values(key).at(-1) ?? '';
}

function values(key) {
  return unit
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1).trim());
}

function words(text) {
  return [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
