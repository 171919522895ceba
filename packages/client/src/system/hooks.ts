/** PreUp, PostUp, PreDown and PostDown: a shell runs nothing but these, here or in the helper. */
import { spawn } from 'node:child_process';
import type { HookCommand, InterfaceConfig } from '@sealane/tunnel';
import { isPipe } from '../config-path.ts';
import { badInput, CliError, EXIT } from '../errors.ts';
import { type HookHelper, NotBegun } from './hook-helper.ts';
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
  for (const [i, { command, line }] of commands.entries()) {
    const status = await run(scriptOf(command, name), hookEnvironment(name, path), signal).catch((error: unknown) => {
      // Those before it are not to be run again.
      throw error instanceof NotBegun && i > 0 ? new CliError(EXIT.failure, error.message, { cause: error }) : error;
    });
    signal?.throwIfAborted();
    if (status === 0) continue;
    const how = status === null ? 'was ended by a signal' : `failed with status ${status}`;
    throw new CliError(EXIT.failure, `${path}:${line}: ${hook}: the command ${how}`);
  }
}

/** What bash(1) is given of them, for an interface of this name. */
export function scriptsOf(own: InterfaceConfig, name: string): readonly string[] {
  return Object.values(hooksOf(own)).flatMap((commands) => commands.map(({ command }) => scriptOf(command, name)));
}

function scriptOf(command: string, name: string): string {
  return command.replaceAll('%i', name);
}

/** What bash(1) takes for settings of its own: a time limit of `read` for one, which some systems give to all of root's shells. */
const SHELL_SETTINGS = ['BASH_ENV', 'BASHOPTS', 'POSIXLY_CORRECT', 'SHELLOPTS', 'TMOUT'];

export function hookEnvironment(name: string, path: string): NodeJS.ProcessEnv {
  const env = Object.entries(process.env).filter(([key]) => !SHELL_SETTINGS.includes(key));
  return { ...Object.fromEntries(env), INTERFACE: name, CONFIG_FILE: path };
}

let helper: HookHelper | undefined;

/** From here on it is the helper that runs commands. */
export function runHooksBy(chosen: HookHelper): void {
  helper = chosen;
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Resolves to the exit status, null after a signal. */
async function run(script: string, env: NodeJS.ProcessEnv, signal: AbortSignal | undefined): Promise<number | null> {
  let endIt: (() => void) | undefined;
  let isAsked = false;
  const end = (): void => {
    isAsked = true;
    try {
      endIt?.();
    } catch {
      // It has just ended.
    }
  };
  const onStart = (how: () => void): void => {
    endIt = how;
    if (isAsked) end();
  };
  signal?.addEventListener('abort', end);
  for (const name of SIGNALS) process.on(name, end);
  try {
    return await (helper === undefined ? bash(script, env, onStart) : helper.run(script, onStart));
  } finally {
    signal?.removeEventListener('abort', end);
    for (const name of SIGNALS) process.off(name, end);
  }
}

function bash(script: string, env: NodeJS.ProcessEnv, onStart: (end: () => void) => void): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const words = ['-e', '-o', 'pipefail', '-O', 'extglob', '-c', '--', script];
    const child = spawn('bash', words, { env, detached: true, stdio: ['ignore', 2, 2] });
    const { pid } = child;
    if (pid !== undefined) onStart(() => process.kill(-pid, 'SIGTERM'));
    child.once('error', (cause) => reject(cannotRun('bash', cause)));
    child.once('close', resolve);
  });
}
