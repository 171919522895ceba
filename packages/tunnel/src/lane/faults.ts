import { errnoName } from '../linux/foreign.ts';

/** Counts of what the system refused, by name and error. */
export class Faults {
  readonly #counts = new Map<string, number>();
  readonly #names = new Map<number, string>();
  total = 0;

  /** `code` is an error number. */
  add(name: string, code?: number, times = 1): void {
    this.total += times;
    const key = code === undefined ? name : `${name} ${this.#nameOf(code)}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + times);
  }

  snapshot(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }

  #nameOf(code: number): string {
    let name = this.#names.get(code);
    if (name === undefined) {
      name = errnoName(code);
      this.#names.set(code, name);
    }
    return name;
  }
}
