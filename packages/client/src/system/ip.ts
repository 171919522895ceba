import { oneLine } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { runProgram } from './program.ts';

/** One command of ip(8) as its words, without `ip` itself. */
export type IpCommand = readonly string[];

/** What a command of ip(8) prints; CliError with its own words when it fails. */
export async function ip(command: IpCommand): Promise<string> {
  const { status, stdout, stderr } = await runProgram('ip', command);
  if (status !== 0) throw failed(command, stderr);
  return stdout;
}

/** Runs commands in one process, up to the first that fails; the CliError names that one. `options` are ip's own. */
export async function ipBatch(commands: readonly IpCommand[], ...options: readonly string[]): Promise<void> {
  if (commands.length === 0) return;
  const { status, stderr } = await runProgram(
    'ip',
    [...options, '-batch', '-'],
    commands.map((words) => `${words.join(' ')}\n`).join(''),
  );
  if (status === 0) return;
  const line = Number(/^Command failed -:(\d+)/m.exec(stderr)?.[1] ?? 1);
  throw failed(commands[line - 1] ?? ['-batch', '-'], stderr.replaceAll(/^Command failed.*$/gm, ''));
}

function failed(command: IpCommand, stderr: string): CliError {
  const why = oneLine(stderr.replaceAll(/RTNETLINK answers: |Error: /g, ''));
  return new CliError(EXIT.failure, `'ip ${command.join(' ')}' failed: ${why === '' ? 'it says no reason' : why}`);
}
