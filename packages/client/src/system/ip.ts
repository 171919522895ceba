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
  const { error } = await batch(commands, options);
  if (error !== undefined) throw error;
}

/** A command and the one that takes it back. */
export interface IpChange {
  readonly command: IpCommand;
  readonly back: IpCommand;
}

/** Runs commands in one process; when one fails, those before it are taken back, and the CliError names that one. */
export async function ipAllOrNone(changes: readonly IpChange[]): Promise<void> {
  const { done, error } = await batch(changes.map(({ command }) => command));
  if (error === undefined) return;
  await ipBatch(
    changes
      .slice(0, done)
      .map(({ back }) => back)
      .toReversed(),
  );
  throw error;
}

async function batch(
  commands: readonly IpCommand[],
  options: readonly string[] = [],
): Promise<{ readonly done: number; readonly error?: CliError }> {
  if (commands.length === 0) return { done: 0 };
  const { status, stderr } = await runProgram(
    'ip',
    [...options, '-batch', '-'],
    commands.map((words) => `${words.join(' ')}\n`).join(''),
  );
  if (status === 0) return { done: commands.length };
  const done = Number(/^Command failed -:(\d+)/m.exec(stderr)?.[1] ?? 1) - 1;
  const error = failed(commands[done] ?? ['-batch', '-'], stderr.replaceAll(/^Command failed.*$/gm, ''));
  return { done, error };
}

function failed(command: IpCommand, stderr: string): CliError {
  const why = oneLine(stderr.replaceAll(/RTNETLINK answers: |Error: /g, ''));
  const remedy =
    command.includes('route') && why.startsWith('File exists')
      ? ": another route leads to that network; remove it ('ip route', 'ip -6 route' show it), or take it out of AllowedIPs"
      : '';
  const failure = `'ip ${command.join(' ')}' failed: ${why === '' ? 'it says no reason' : why}`;
  return new CliError(EXIT.failure, failure + remedy);
}
