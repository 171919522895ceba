/** Lets the system calls of a real program fail, by a small library that is built here and preloaded into it. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute } from './lab.ts';

const SOURCE = fileURLToPath(new URL('fail-calls.c', import.meta.url));
/** As in fail-calls.c. */
const KINDS = ['receive', 'send', 'write', 'poll'] as const;
const CALL = 16;
const LEFT = 4;
const FAILED = 8;
const MADE = 12;

export type CallKind = (typeof KINDS)[number];
export type ErrorName = keyof typeof constants.errno;

export class FailingCalls {
  /** What the program needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly #file: number;

  private constructor(library: string, path: string) {
    this.#file = openSync(path, 'w+', 0o600);
    writeSync(this.#file, Buffer.alloc(KINDS.length * CALL));
    this.env = { LD_PRELOAD: library, SEALANE_FAIL_CALLS: path };
  }

  /** Needs `cc`; the files lie in `folder`, which the caller removes. */
  static async build(folder: string): Promise<FailingCalls> {
    const library = join(folder, 'fail-calls.so');
    const { code, stderr } = await execute('cc', ['-O2', '-shared', '-fPIC', SOURCE, '-o', library, '-ldl']);
    if (code !== 0) throw new Error(`fail-calls.c cannot be built: ${stderr}`);
    return new FailingCalls(library, join(folder, 'fail-calls'));
  }

  /** Lets the next calls fail, `times` of them; 0 lets them succeed again. */
  fail(kind: CallKind, error: ErrorName, times: number): void {
    this.#write(kind, 0, constants.errno[error]);
    this.#write(kind, LEFT, times);
  }

  /** How many are still to fail. */
  left(kind: CallKind): number {
    return this.#read(kind, LEFT);
  }

  failed(kind: CallKind): number {
    return this.#read(kind, FAILED);
  }

  /** How many were made, in good order or not. */
  made(kind: CallKind): number {
    return this.#read(kind, MADE);
  }

  close(): void {
    closeSync(this.#file);
  }

  #read(kind: CallKind, field: number): number {
    const value = Buffer.alloc(4);
    readSync(this.#file, value, 0, 4, KINDS.indexOf(kind) * CALL + field);
    return value.readInt32LE();
  }

  #write(kind: CallKind, field: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    writeSync(this.#file, bytes, 0, 4, KINDS.indexOf(kind) * CALL + field);
  }
}
