/** PreUp, PostUp, PreDown and PostDown: the only place where a shell runs anything. */
import { spawn } from 'node:child_process';
import type { HookCommand, InterfaceConfig } from '@sealane/tunnel';
import { isPipe } from '../config-path.ts';
import { badInput, CliError, EXIT } from '../errors.ts';
import { cannotRun } from './program.ts';

export type HookName = 'PreUp' | 'PostUp' | 'PreDown' | 'PostDown';

export function hooksOf(own: InterfaceConfig): Readonly<Record<HookName, readonly HookCommand[]>> {
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
 * Runs commands one after the other through bash(1), up to the first that fails, as wg-quick does: `%i` stands for the
 * interface, a command fails with any part of it (`-e`, `pipefail`). A signal to this process ends the one that runs. The
 * commands themselves may be secret: a CliError names their line.
 */
export async function runHooks(
  hook: HookName,
  commands: readonly HookCommand[],
  { name, path }: { readonly name: string; readonly path: string },
  signal?: AbortSignal,
): Promise<void> {
  for (const { command, line } of commands) {
    const env = { ...process.env, INTERFACE: name, CONFIG_FILE: path };
    const status = await bash(command.replaceAll('%i', name), env, signal);
    signal?.throwIfAborted();
    if (status === 0) continue;
    const how = status === null ? 'was ended by a signal' : `failed with status ${status}`;
    throw new CliError(EXIT.failure, `${path}:${line}: ${hook}: the command ${how}`);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Resolves to the exit status, null after a signal. */
function bash(script: string, env: NodeJS.ProcessEnv, signal: AbortSignal | undefined): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const words = ['-e', '-o', 'pipefail', '-O', 'extglob', '-c', script];
    const child = spawn('bash', words, { env, detached: true, stdio: ['ignore', 2, 2] });
    const end = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
    };
    signal?.addEventListener('abort', end);
    for (const name of SIGNALS) process.on(name, end);
    const forget = (): void => {
      signal?.removeEventListener('abort', end);
      for (const name of SIGNALS) process.off(name, end);
    };
    child.once('error', (cause) => {
      forget();
      reject(cannotRun('bash', cause));
    });
    child.once('close', (status) => {
      forget();
      resolve(status);
    });
  });
}
