import { errorLine } from '../errors.ts';
import { NotBegun } from './hook-helper.ts';
import type { Journal } from './journal.ts';
import { canRepeat, describeStep, undoStep, type UndoStep } from './steps.ts';

interface Entry {
  readonly what: string;
  /** Given what later ones could not undo. */
  readonly undo: (failed: readonly UndoStep[]) => Promise<unknown>;
  /** Present when it outlives the process. */
  readonly step?: UndoStep;
}

export interface UndoFailure {
  readonly what: string;
  readonly error: unknown;
  /** What failed to be undone outlives the process. */
  readonly stays: boolean;
}

/** What has to be undone, the latest first. What outlives the process is kept in its journal. */
export class UndoStack {
  readonly #journal: Journal | undefined;
  #entries: Entry[] = [];

  constructor(journal?: Journal) {
    this.#journal = journal;
  }

  /** Remembers how to undo a step that has just been done and that ends with the process. */
  push(what: string, undo: () => Promise<unknown>): void {
    this.#entries.push({ what, undo });
  }

  /** Remembers a step that outlives the process; the journal has it before this returns. */
  pushStep(step: UndoStep): void {
    this.#entries.push(entryOf(step));
    this.#save();
  }

  /** The same, to be undone after everything else; nothing new when it is noted already. */
  pushLast(step: UndoStep): void {
    const what = describeStep(step);
    if (this.#entries.some((entry) => entry.step !== undefined && entry.what === what)) return;
    this.#entries.unshift(entryOf(step));
    this.#save();
  }

  /** Notes that a step which was noted has been done. */
  confirm(step: UndoStep, done: UndoStep): void {
    this.#entries = this.#entries.map((entry) => (entry.step === step ? entryOf(done) : entry));
    this.#save();
  }

  /** Undoes the steps that are chosen now. */
  async undoEarly(isChosen: (step: UndoStep) => boolean): Promise<void> {
    const chosen = this.#entries.filter(({ step }) => step !== undefined && isChosen(step));
    for (const entry of chosen.toReversed()) {
      await entry.undo([]);
      this.#entries = this.#entries.filter((other) => other !== entry);
      this.#save();
    }
  }

  /**
   * Undoes every step but those to `keep`, also when one fails; resolves to what failed. The journal keeps what may be tried
   * again, and of the rest what it was when somebody waits to read it. What is undone is noted at once: a process that is killed
   * meanwhile leaves nothing to be undone a second time, when it may be another's.
   */
  async run(keep: (step: UndoStep) => boolean = () => false, isAwaited = false): Promise<readonly UndoFailure[]> {
    const failures: UndoFailure[] = [];
    const final: string[] = [];
    const failed: Entry[] = [];
    const kept = this.#entries.filter(({ step }) => step !== undefined && keep(step));
    this.#entries = this.#entries.filter((entry) => !kept.includes(entry));
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      const note = (): void => this.#tryToSave([...kept, ...this.#entries, ...failed]);
      // A command that has begun has been run.
      if (entry.step !== undefined && !canRepeat(entry.step)) note();
      try {
        await entry.undo(stepsOf(failed));
        if (entry.step !== undefined) note();
      } catch (error) {
        failures.push({ what: entry.what, error, stays: entry.step !== undefined });
        if (entry.step !== undefined && (canRepeat(entry.step) || error instanceof NotBegun)) {
          failed.unshift(entry);
          note();
        } else final.push(`${entry.what}: ${errorLine(error)}`);
      }
    }
    this.#entries = [...kept, ...failed];
    if (this.#entries.length > 0 || (isAwaited && final.length > 0))
      this.#journal?.saveRest(stepsOf(this.#entries), final);
    else this.#journal?.remove();
    return failures;
  }

  #save(entries: readonly Entry[] = this.#entries): void {
    this.#journal?.save(stepsOf(entries));
  }

  /** On the way back: what cannot be noted must be undone all the same. */
  #tryToSave(entries: readonly Entry[]): void {
    try {
      this.#save(entries);
    } catch {
      // The end says so, when it cannot be noted either.
    }
  }
}

function stepsOf(entries: readonly Entry[]): readonly UndoStep[] {
  return entries.flatMap(({ step }) => (step === undefined ? [] : [step]));
}

function entryOf(step: UndoStep): Entry {
  return { what: describeStep(step), undo: (failed) => undoStep(step, failed), step };
}
