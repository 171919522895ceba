/** What the person who runs a proxy should know: each complaint once for as long as it stands, then how often it came. */
export class Complaints {
  readonly #note: (line: string) => void;
  readonly #standing = new Map<string, number>();

  constructor(note: (line: string) => void) {
    this.#note = note;
  }

  /** Says the line unless the same is said of the subject already; then it only counts. */
  raise(subject: string, line: string): void {
    const times = this.#standing.get(subject);
    // A client that names ever new destinations must not fill the screen.
    if (times === undefined && this.#standing.size >= MOST_STANDING) return;
    this.#standing.set(subject, (times ?? 0) + 1);
    if (times === undefined) this.#note(line);
  }

  /** The subject is well again, or given up; `line` says so, after how many times. */
  settle(subject: string, line?: (times: number) => string): void {
    const times = this.#standing.get(subject);
    if (times === undefined) return;
    this.#standing.delete(subject);
    if (line !== undefined) this.#note(line(times));
  }
}

const MOST_STANDING = 64;
