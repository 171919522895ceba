/** What has to be undone, the latest first. */
export class UndoStack {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<unknown> }[] = [];

  /** Remembers how to undo a step that has just been done. */
  push(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo });
  }

  /** Undoes every step, also when one fails; resolves to what failed. */
  async run(): Promise<readonly { readonly what: string; readonly error: unknown }[]> {
    const failures: { what: string; error: unknown }[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        failures.push({ what: step.what, error });
      }
    }
    return failures;
  }
}
