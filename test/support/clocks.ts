/** The clocks of a process of ours and of its threads, which a test moves. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Lab } from './lab.ts';

/** To preload; the file says what it does. */
export const AHEAD: string = fileURLToPath(new URL('ahead.cjs', import.meta.url));

export class MovedClocks {
  /** For the process. */
  readonly env: Readonly<Record<string, string>>;
  readonly #file: string;
  #monotonicMs = 0;
  #wallMs = 0;

  private constructor(file: string) {
    this.#file = file;
    this.env = { NODE_OPTIONS: `--require ${AHEAD}`, SEALANE_AHEAD: file };
  }

  static async of(lab: Lab, name: string): Promise<MovedClocks> {
    return new MovedClocks(await lab.file(`ahead-${name}`, '0 0'));
  }

  /** What the process takes the time to be, in Unix milliseconds. */
  get now(): number {
    return Date.now() + this.#wallMs;
  }

  /** Both clocks at once. The process sees it the next time that it asks for either, or 20 ms later. */
  step({ monotonicMs = 0, wallMs = 0 }: { readonly monotonicMs?: number; readonly wallMs?: number }): void {
    this.#monotonicMs += monotonicMs;
    this.#wallMs += wallMs;
    writeFileSync(this.#file, `${this.#monotonicMs} ${this.#wallMs}`);
  }
}
