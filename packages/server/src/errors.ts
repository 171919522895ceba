/** The input is wrong (an argument, a state file, its permissions): the command ends with exit code 2. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** The input is right but the command cannot be done as things are: it ends with exit code 1. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

/** The code of a failed system call ('ENOENT', ...), else undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What went wrong in one line, without control characters. */
export function errorLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ').trim();
}
