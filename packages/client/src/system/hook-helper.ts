/**
 * Runs the commands of a file for a tunnel that has given its privileges up: a small process that keeps them, knows the commands
 * from the beginning and runs no others. When the tunnel's process is gone, however it ended, it ends as soon as no command runs.
 */
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { keepToOurselves, letWait, openPipe } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { cannotRun, hasProgram } from './program.ts';

/** Its process, and the ends of two pipes that are ours. */
export interface HelperHandle {
  readonly pid: number;
  readonly requests: number;
  readonly answers: number;
}

/** The command was not begun and is still to be run. */
export class NotBegun extends CliError {}

/**
 * Reads how many commands there are, the commands, and then each that is to be run, all ended by a zero byte; answers with a line that
 * has the process of the command and one that has its status. Who ends all processes of a service ends the command, which the tunnel
 * then hears of, and not this process: a signal that it caught would cost it the status. SIGUSR1 ends the command alone, whoever it has
 * become by then: the tunnel has no right to that any more. The command tells its process itself, when it can be ended by a signal.
 * bash exports each variable that it found in the environment: these have names that nobody's commands ask for.
 */
const LOOP = `
set -m
trap '' TERM INT HUP
_busy=
trap '[[ $_busy ]] && kill -TERM -- "-$!" 2> /dev/null' USR1
IFS= read -r -d '' _count || exit
_commands=()
for ((_i = 0; _i < _count; _i++)); do
  IFS= read -r -d '' _command || exit
  _commands+=("$_command")
done
while IFS= read -r -d '' _wanted; do
  _known=
  for _command in "\${_commands[@]}"; do
    [[ $_command == "$_wanted" ]] && _known=yes
  done
  [[ $_known ]] || exit
  _busy=yes
  { trap - TERM INT HUP; echo "$BASHPID"; exec bash -e -o pipefail -O extglob -c -- "$_wanted" < /dev/null >&2; } &
  _pid=$!
  { wait "$_pid"; } 2> /dev/null
  while kill -0 "$_pid" 2> /dev/null; do
    # SIGUSR1 came, or the command was stopped, and then there is nothing to wait for.
    { sleep 0.1; wait "$_pid"; } 2> /dev/null
  done
  # What SIGUSR1 cut short; the status of a command that has ended is kept.
  { wait "$_pid"; } 2> /dev/null
  _status=$?
  _busy=
  echo "$_status"
done
`;
/**
 * Node does not wait for who reads what it writes to a pipe or a socket, and whoever shares the open file does not either: commands that
 * say much would lose it, or fail. A pipe can be opened once more, for them; a socket is made to wait while one of them runs.
 */
const STDERR = 2;
/** What bash(1) makes of the signals 1 to 64; a command may end with more by itself. */
const [FIRST_SIGNAL_STATUS, LAST_SIGNAL_STATUS] = [129, 192];

/** Starts it with what this process may do now, and with no function of the caller's. CliError when there is no bash(1). */
export function startHookHelper(scripts: readonly string[], env: NodeJS.ProcessEnv): HelperHandle {
  const [requests, answers] = [openPipe(), openPipe()];
  const errors = fstatSync(STDERR).isFIFO() ? openSync('/proc/self/fd/2', 'w') : STDERR;
  const stdio = [requests.read, answers.write, errors];
  const child = spawn('bash', ['-p', '-c', LOOP], { env, detached: true, stdio });
  child.once('error', () => undefined);
  child.unref();
  for (const descriptor of stdio) if (descriptor !== STDERR) closeSync(descriptor);
  const { pid } = child;
  if (pid === undefined) {
    const code = hasProgram('bash') ? 'EAGAIN' : 'ENOENT';
    throw cannotRun('bash', Object.assign(new Error('it cannot be started'), { code }));
  }
  try {
    writeSync(requests.write, [scripts.length, ...scripts].map((text) => `${text}\0`).join(''));
  } catch (cause) {
    throw cannotRun('bash', cause as NodeJS.ErrnoException);
  }
  return { pid, requests: requests.write, answers: answers.read };
}

export class HookHelper {
  readonly #pid: number;
  readonly #requests: number;
  readonly #answers: Socket;
  readonly #lines: string[] = [];
  #rest = '';
  #isOver = false;
  #wake: () => void = () => undefined;

  constructor({ pid, requests, answers }: HelperHandle) {
    for (const descriptor of [requests, answers]) keepToOurselves(descriptor);
    this.#pid = pid;
    this.#requests = requests;
    this.#answers = new Socket({ fd: answers, readable: true, writable: false });
    this.#answers.setEncoding('utf8');
    this.#answers.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop()!;
      this.#lines.push(...lines);
      this.#wake();
    });
    this.#answers.on('error', () => undefined);
    this.#answers.once('close', () => {
      this.#isOver = true;
      this.#wake();
    });
    this.#answers.unref();
  }

  /**
   * Resolves to the exit status, null after a signal; `onStart` is told how to end the command. Rejects with NotBegun when the helper is
   * gone or does not know the command, with CliError when it goes meanwhile.
   */
  async run(script: string, onStart: (end: () => void) => void): Promise<number | null> {
    this.#answers.ref();
    const restore = fstatSync(STDERR).isSocket() ? letWait(STDERR) : undefined;
    try {
      await this.#begin(script);
      onStart(() => process.kill(this.#pid, 'SIGUSR1'));
      const status = await this.#number();
      // Below zero: SIGUSR1 met the end of the command.
      return status < 0 || (status >= FIRST_SIGNAL_STATUS && status <= LAST_SIGNAL_STATUS) ? null : status;
    } finally {
      restore?.();
      this.#answers.unref();
    }
  }

  async #begin(script: string): Promise<void> {
    try {
      writeSync(this.#requests, `${script}\0`);
      await this.#number();
    } catch (cause) {
      throw new NotBegun(EXIT.failure, 'the process that runs commands is gone', { cause });
    }
  }

  async #number(): Promise<number> {
    while (this.#lines.length === 0) {
      if (this.#isOver) throw new CliError(EXIT.failure, 'the process that runs commands went away meanwhile');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return Number(this.#lines.shift());
  }
}
