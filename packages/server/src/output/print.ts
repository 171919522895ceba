import { RefusedError } from '../errors.ts';

/**
 * Writes to standard output and waits until it has been taken.
 * @throws RefusedError when nobody reads it any more.
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text.endsWith('\n') ? text : `${text}\n`, (error) => {
      if (error) reject(new RefusedError(`the output could not be written: ${error.message}`, { cause: error }));
      else resolve();
    });
  });
}

export function printJson(value: unknown): Promise<void> {
  return print(JSON.stringify(value));
}

/** A remark for people, on standard error: what goes to a pipe stays clean. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Rows of text as aligned columns, two spaces apart. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
