/** Calls into C: functions by their prototype, and the addresses of bytes. koffi is loaded with the first use. */
import { createRequire } from 'node:module';
import type koffi from 'koffi';

/** A C function whose arguments are integers and addresses. */
export type ForeignFunction = (...args: readonly number[]) => number;

/** A buffer's bytes as C and as 32-bit words see them; the words begin at the buffer's start. */
export interface Memory {
  readonly address: number;
  readonly words: Uint32Array;
}

let loaded: typeof koffi | undefined;
let self: ReturnType<typeof koffi.load> | undefined;

function library(): { readonly koffi: typeof loaded & object; readonly self: typeof self & object } {
  loaded ??= createRequire(import.meta.url)('koffi') as typeof koffi;
  self ??= loaded.load(null);
  return { koffi: loaded, self };
}

const functions = new Map<string, ForeignFunction>();

/**
 * The function of this C prototype, from the C library or from what the node binary itself exports.
 * Addresses are written as `uintptr_t`: pointers cost koffi twice the time. Throws when there is no such function.
 */
export function foreign(prototype: string): ForeignFunction {
  let found = functions.get(prototype);
  if (found === undefined) {
    // Declaring one takes memory outside of the heap, which comes back late: once is enough.
    found = library().self.func(prototype) as ForeignFunction;
    functions.set(prototype, found);
  }
  return found;
}

/** The same, but it runs on a thread of Node's pool; `done` receives the result, after `errno()` was set to the call's. */
export function foreignAsync(prototype: string): (args: readonly number[], done: (result: number) => void) => void {
  const call = library().self.func(prototype);
  return (args, done) => {
    call.async(...args, (error: unknown, result: number) => done(error === null ? result : -1));
  };
}

/** Where an exported function lies, for C functions that take one. Throws when there is none of that name. */
export function symbolAddress(name: string): number {
  return Number(library().koffi.address(library().self.symbol(name)));
}

/** Closes a descriptor that a foreign call opened: Node keeps books on its own ones. */
export function closeDescriptor(fd: number): void {
  foreign('int close(int)')(fd);
}

/** The error number of the last call that failed. */
export function errno(): number {
  return library().koffi.errno();
}

/** 'ENOBUFS' for its number; 'errno 123' for one without a name. */
export function errnoName(code: number): string {
  for (const [name, value] of Object.entries(library().koffi.os.errno)) if (value === code) return name;
  return `errno ${code}`;
}

/** The number of an error name on this system. */
export function errnoOf(name: string): number {
  return library().koffi.os.errno[name] ?? -1;
}

const memories = new WeakMap<ArrayBufferLike, Memory>();
let lastBytes: Uint8Array | undefined;
let lastMemory: Memory | undefined;

/**
 * Where the buffer behind `bytes` lies. Backing stores never move and live as long as their buffer,
 * so the caller keeps it reachable for as long as C may touch it.
 */
export function memoryOf(bytes: Uint8Array): Memory {
  // Asking a typed array for its buffer is a call: the array itself tells as much.
  if (bytes === lastBytes) return lastMemory!;
  const { buffer } = bytes;
  let memory = memories.get(buffer);
  if (memory === undefined) {
    const address = Number(library().koffi.address(buffer));
    memory = { address, words: new Uint32Array(buffer, 0, buffer.byteLength >> 2) };
    memories.set(buffer, memory);
  }
  lastBytes = bytes;
  lastMemory = memory;
  return memory;
}

/** The address of the first of `bytes`. */
export function addressOf(bytes: Uint8Array): number {
  return memoryOf(bytes).address + bytes.byteOffset;
}

/** An ArrayBuffer over memory that C made. */
export function viewOf(address: number, size: number): ArrayBuffer {
  return library().koffi.view(BigInt(address), size);
}
