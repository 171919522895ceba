import { oneLine } from '@sealane/tunnel';

/** What the exit codes mean; `sealane --help` prints this table. */
export const EXIT = {
  ok: 0,
  failure: 1,
  /** An argument or a configuration is wrong; nothing was applied. */
  badInput: 2,
  /** The server did not answer the handshake, or cannot be reached. */
  noAnswer: 3,
  /** The tunnel stands, but echo requests through it were lost. */
  noEcho: 4,
  /** The system refuses what needs privileges. */
  noPermission: 5,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with one line for people and an exit code. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

export function badInput(message: string, cause?: unknown): CliError {
  return new CliError(EXIT.badInput, message, cause === undefined ? undefined : { cause });
}

/** The code of a failed system call ('ENOENT', ...) of the error or of what caused it, else undefined. */
export function errorCode(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if ('code' in at && typeof at.code === 'string') return at.code;
  }
  return undefined;
}

/** What went wrong in one line, without control characters; the cause of an error of the system is appended. */
export function errorLine(error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  if (error instanceof CliError) return oneLine(error.message);
  const cause = error.cause instanceof Error ? errorLine(error.cause) : '';
  return oneLine(cause === '' || error.message.includes(cause) ? error.message : `${error.message}: ${cause}`);
}
