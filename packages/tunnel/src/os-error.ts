/** What a thrown value says about the system's fault, whatever it is. */

/** The name of the errno, such as `ENOENT`, or undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** The errno as a positive number, or undefined. */
export function errorNumber(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errno' in error) || typeof error.errno !== 'number') return undefined;
  return Math.abs(error.errno);
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
