/** A terminal that is taken over for a while: frames in place of each other on its alternate screen, fitted to its size. */

const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
const USUAL_SIZE = { columns: 80, rows: 24 };

/** True for a terminal that knows how to move its cursor. */
export function isScreen(stream: { readonly isTTY?: boolean }): boolean {
  return stream.isTTY === true && !['', 'dumb'].includes(process.env['TERM'] ?? '');
}

export class Screen {
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream = process.stdout) {
    this.#stream = stream;
    stream.write(ENTER);
  }

  draw(text: string): void {
    // A terminal that does not know its size says 0.
    const columns = this.#stream.columns || USUAL_SIZE.columns;
    const rows = this.#stream.rows || USUAL_SIZE.rows;
    const lines = fit(text, columns, rows);
    // Cleared before it is written: behind a line of full width the cursor still stands on its last character.
    const frame = lines.map((line) => CLEAR_LINE + line).join('\n');
    this.#stream.write(HOME + frame + (lines.length < rows ? `\n${CLEAR_BELOW}` : ''));
  }

  /** Gives the terminal back as it was. */
  close(): void {
    this.#stream.write(LEAVE);
  }
}

/** The lines of a text as they fit; the last one says how many do not. */
export function fit(text: string, columns: number, rows: number): readonly string[] {
  const lines = text.split('\n');
  const shown =
    lines.length <= rows ? lines : [...lines.slice(0, rows - 1), `... ${lines.length - rows + 1} more lines`];
  return shown.map((line) => cut(line, columns));
}

/** Colours take no room, and none is cut off. */
function cut(line: string, columns: number): string {
  let left = columns;
  // oxlint-disable-next-line no-control-regex -- the sequences that picocolors writes
  return line.replaceAll(/\u001b\[[0-9;]*m|./gsu, (piece) => (piece.length > 2 || left-- > 0 ? piece : ''));
}
