/**
 * Runs the commands of a file for a tunnel that has given its privileges up: a small process that keeps them, knows the commands
 * from the beginning and runs no others. It ends with the tunnel's process, however that ended.
 */
import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { keepToOurselves, openPipe } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { cannotRun } from './program.ts';

/** The ends of two pipes that are ours. */
export interface HelperPipes {
  readonly requests: number;
  readonly answers: number;
}

/**
 * Reads how many commands there are, the commands, and then each that is to be run, all ended by a zero byte; answers with a line that
 * has the process of the command and one that has its status. Who ends all processes of a service ends the command, which the tunnel then hears of.
 */
const LOOP = `
set -m
trap : TERM INT HUP
IFS= read -r -d '' count || exit
commands=()
for ((i = 0; i < count; i++)); do
  IFS= read -r -d '' command || exit
  commands+=("$command")
done
while IFS= read -r -d '' wanted; do
  known=
  for command in "\${commands[@]}"; do
    [[ $command == "$wanted" ]] && known=yes
  done
  [[ $known ]] || exit
  bash -e -o pipefail -O extglob -c -- "$wanted" < /dev/null >&2 &
  pid=$!
  echo "$pid"
  { wait "$pid"; } 2> /dev/null
  status=$?
  while ((status > 128)) && kill -0 "$pid" 2> /dev/null; do
    { wait "$pid"; } 2> /dev/null
    status=$?
  done
  echo "$status"
done
`;
const FIRST_SIGNAL_STATUS = 129;

/** Starts it with what this process may do now. CliError when there is no bash(1). */
export function startHookHelper(scripts: readonly string[], env: NodeJS.ProcessEnv): HelperPipes {
  const [requests, answers] = [openPipe(), openPipe()];
  // What it says of itself would be taken for answers.
  const { BASH_ENV: _, ...rest } = env;
  const child = spawn('bash', ['-c', LOOP], { env: rest, detached: true, stdio: [requests.read, answers.write, 2] });
  child.once('error', () => undefined);
  child.unref();
  closeSync(requests.read);
  closeSync(answers.write);
  try {
    writeSync(requests.write, [scripts.length, ...scripts].map((text) => `${text}\0`).join(''));
  } catch (cause) {
    throw cannotRun('bash', cause as NodeJS.ErrnoException);
  }
  return { requests: requests.write, answers: answers.read };
}

export class HookHelper {
  readonly #requests: number;
  readonly #answers: Socket;
  readonly #lines: string[] = [];
  #rest = '';
  #isOver = false;
  #wake: () => void = () => undefined;

  constructor({ requests, answers }: HelperPipes) {
    for (const descriptor of [requests, answers]) keepToOurselves(descriptor);
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

  /** Resolves to the exit status, null after a signal; `onStart` is told the process group. CliError when the helper is gone. */
  async run(script: string, onStart: (group: number) => void): Promise<number | null> {
    this.#answers.ref();
    try {
      writeSync(this.#requests, `${script}\0`);
      onStart(await this.#number());
      const status = await this.#number();
      return status < FIRST_SIGNAL_STATUS ? status : null;
    } catch (cause) {
      throw new CliError(EXIT.failure, 'the process that runs commands is gone, or the file changed during the start', {
        cause,
      });
    } finally {
      this.#answers.unref();
    }
  }

  async #number(): Promise<number> {
    while (this.#lines.length === 0) {
      if (this.#isOver) throw new Error('no answer');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return Number(this.#lines.shift());
  }
}
