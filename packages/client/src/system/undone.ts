/**
 * What a tunnel has undone that became an ordinary user's process: a file beside its journal, which only root can write from then on.
 * The process holds it open, and somebody may have taken it over. So all that is read from it are places in the journal's list of
 * steps, which are then left out, and that it ended: nothing of it is ever run.
 */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import type { UndoStep } from './steps.ts';

/** Many times what a tunnel has to tell; whoever writes more than that is not asked what. */
const MOST_BYTES = 4_096;

const ENDED = 'ended';

export class UndoneNotes {
  readonly #file: number;
  readonly #steps: readonly UndoStep[];
  readonly #told = new Set<string>();

  /** Opens the file anew, for a journal that lists these steps. */
  constructor(path: string, steps: readonly UndoStep[]) {
    rmSync(path, { force: true });
    this.#file = openSync(path, 'ax', 0o600);
    this.#steps = steps;
  }

  /** Notes, each by one write, what is not left any more; a step is known by being the same object. */
  tell(left: readonly UndoStep[], ended: boolean): void {
    for (const [i, step] of this.#steps.entries()) if (!left.includes(step)) this.#tell(String(i));
    if (ended) this.#tell(ENDED);
  }

  #tell(word: string): void {
    if (this.#told.has(word)) return;
    writeSync(this.#file, `${word}\n`);
    this.#told.add(word);
  }
}

/** The steps of a journal that are left to undo, and whether the process ended by itself. Throws when the file cannot be read. */
export function readUndone(
  path: string,
  steps: readonly UndoStep[],
): { readonly steps: readonly UndoStep[]; readonly ended: boolean } {
  const text = new Uint8Array(MOST_BYTES);
  const file = openSync(path, 'r');
  try {
    const length = readSync(file, text, 0, text.length, 0);
    const words = new TextDecoder('latin1').decode(text.subarray(0, length)).split('\n').slice(0, -1);
    return { steps: steps.filter((_, i) => !words.includes(String(i))), ended: words.includes(ENDED) };
  } finally {
    closeSync(file);
  }
}
