import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { CliError, EXIT } from '../errors.ts';

export interface ProgramOutcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The package that a program comes in. */
const PACKAGES: Readonly<Record<string, string>> = {
  bash: 'bash',
  ip: 'iproute2',
  nft: 'nftables',
  resolvconf: 'openresolv',
  resolvectl: 'systemd-resolved',
};

/**
 * Runs a program of the system to its end; CliError when it is not there. It runs in a session of its own, so that
 * Ctrl-C at a terminal reaches us alone and undoing can go on.
 */
export function runProgram(program: string, words: readonly string[], input = ''): Promise<ProgramOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', (cause) => reject(cannotRun(program, cause)));
    child.once('close', (status) => resolve({ status: status ?? 1, stdout, stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

export function cannotRun(program: string, cause: NodeJS.ErrnoException): CliError {
  const why = cause.code === 'ENOENT' ? `it is missing: install ${PACKAGES[program] ?? 'it'}` : cause.message;
  return new CliError(EXIT.failure, `cannot run the program ${program}: ${why}`, { cause });
}

/** True when a program of this name is in $PATH. */
export function hasProgram(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    if (folder === '') return false;
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
