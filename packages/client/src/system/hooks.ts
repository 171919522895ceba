/** PreUp, PostUp, PreDown and PostDown: the only place where a shell runs anything. */
import { spawn } from 'node:child_process';
import type { InterfaceConfig } from '@sealane/tunnel';
import { isPipe } from '../config-path.ts';
import { badInput, CliError, EXIT } from '../errors.ts';
import { cannotRun } from './program.ts';

export type HookName = 'PreUp' | 'PostUp' | 'PreDown' | 'PostDown';

export function hooksOf(own: InterfaceConfig): Readonly<Record<HookName, readonly string[]>> {
  return { PreUp: own.preUp, PostUp: own.postUp, PreDown: own.preDown, PostDown: own.postDown };
}

export function hasHooks(own: InterfaceConfig): boolean {
  return Object.values(hooksOf(own)).some((commands) => commands.length > 0);
}

/**
 * Commands come from a file that nobody else may write, which reading it has made sure of; what comes through a pipe
 * has no owner. CliError that says so.
 */
export function checkHooks(own: InterfaceConfig, path: string): void {
  if (!isPipe(path) || !hasHooks(own)) return;
  throw badInput(
    `${path === '-' ? 'standard input' : path}: commands (PreUp, PostUp, PreDown, PostDown) are run from a file only`,
  );
}

/**
 * Runs commands one after the other through bash(1), `%i` standing for the interface, up to the first that fails.
 * A signal ends the one that runs. The commands themselves may be secret: a CliError names their number.
 */
export async function runHooks(
  hook: HookName,
  commands: readonly string[],
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  for (const [i, command] of commands.entries()) {
    const status = await bash(command.replaceAll('%i', name), signal);
    signal?.throwIfAborted();
    if (status === 0) continue;
    const which = commands.length === 1 ? hook : `${hook} ${i + 1} of ${commands.length}`;
    throw new CliError(EXIT.failure, `the command of ${which} failed with status ${status}`);
  }
}

function bash(script: string, signal: AbortSignal | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', script], { detached: true, stdio: ['ignore', 2, 2] });
    const end = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
    };
    signal?.addEventListener('abort', end);
    child.once('error', (cause) => reject(cannotRun('bash', cause)));
    child.once('close', (status) => {
      signal?.removeEventListener('abort', end);
      resolve(status ?? 128);
    });
  });
}
