import { spawn } from 'node:child_process';
import { CliError, EXIT, oneLine } from '../errors.ts';

/** One command of ip(8) as its words, without `ip` itself. */
export type IpCommand = readonly string[];

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a command of ip(8) prints; CliError with its own words when it fails. */
export async function ip(command: IpCommand): Promise<string> {
  const { status, stdout, stderr } = await run(command, '');
  if (status !== 0) throw failed(command, stderr);
  return stdout;
}

/** Runs commands in one process, up to the first that fails; the CliError names that one. */
export async function ipBatch(commands: readonly IpCommand[]): Promise<void> {
  if (commands.length === 0) return;
  const { status, stderr } = await run(['-batch', '-'], commands.map((words) => `${words.join(' ')}\n`).join(''));
  if (status === 0) return;
  const line = Number(/^Command failed -:(\d+)/m.exec(stderr)?.[1] ?? 1);
  throw failed(commands[line - 1] ?? ['-batch', '-'], stderr.replaceAll(/^Command failed.*$/gm, ''));
}

function failed(command: IpCommand, stderr: string): CliError {
  const why = oneLine(stderr.replaceAll(/RTNETLINK answers: |Error: /g, ''));
  return new CliError(EXIT.failure, `'ip ${command.join(' ')}' failed: ${why === '' ? 'it says no reason' : why}`);
}

/** In a session of its own, so that Ctrl-C at a terminal reaches us alone and undoing can go on. */
function run(words: readonly string[], input: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn('ip', words, { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'ENOENT' ? 'it is missing: install iproute2' : cause.message;
      reject(new CliError(EXIT.failure, `cannot run the program ip: ${why}`, { cause }));
    });
    child.once('close', (status) => resolve({ status: status ?? 1, stdout, stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
