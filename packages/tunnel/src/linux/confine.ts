/** Gives up what a process does not need (capabilities(7), prctl(2)). */
import { readFileSync } from 'node:fs';
import { addressOf, errno, errnoName, foreign } from './foreign.ts';

/** Bits of a capability set. */
export const CAPABILITY = { chown: 0, dacOverride: 1, setgid: 6, setuid: 7, netBindService: 10, netAdmin: 12 } as const;

/** What becoming another user takes, and setting up for it: gone afterwards. */
export const BECOMES_USER: readonly number[] = [
  CAPABILITY.chown,
  CAPABILITY.dacOverride,
  CAPABILITY.setgid,
  CAPABILITY.setuid,
];

const PR_SET_DUMPABLE = 4;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
const RLIMIT_CORE = 4;
const LAST_CAPABILITY = 63;
const F_SETFD = 2;
const STANDARD_STREAMS = [0, 1, 2] as const;

/** What the new start is given: words after the name of the command, and descriptors to keep. */
export interface HandedOn {
  readonly words: readonly string[];
  readonly descriptors: readonly number[];
}

/**
 * Starts this program anew, under the same process id, with no capabilities but these and no way to gain others;
 * does nothing when that is so already, for ordinary users, and where the system has no capabilities. Capabilities
 * belong to threads and Node has several before any code runs: only a new start leaves none behind with more.
 * Throws an Error when the system refuses; call it before anything is held that would be lost. `prepare` is called while there are
 * all privileges still, if there is to be a new start.
 */
export function confine(keep: readonly number[], prepare?: () => HandedOn): void {
  if (process.platform !== 'linux' || process.geteuid?.() !== 0 || isConfined(keep)) return;
  const { words, descriptors } = prepare?.() ?? { words: [], descriptors: [] };
  const prctl = foreign('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
  for (let bit = 0; bit <= LAST_CAPABILITY; bit++) {
    // Fails for what this kernel does not know, and for all of them without CAP_SETPCAP: what counts comes below.
    if (!keep.includes(bit)) prctl(PR_CAPBSET_DROP, bit, 0, 0, 0);
  }
  check('prctl', prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  becomeCapable(keep, false);
  startAnew(words, [...STANDARD_STREAMS, ...descriptors]);
}

/** Gives the calling thread these capabilities, as far as they are permitted, and no others. */
export function becomeCapable(keep: readonly number[], inheritable: boolean): void {
  const capset = foreign('int capset(uintptr_t, uintptr_t)');
  check('capset', capset(addressOf(capabilityHeader()), addressOf(sets(keep, inheritable))));
}

/** No core dump of this process, and no other process of its user may read its memory; what it starts is not affected by the latter. */
export function forbidCoreDumps(): void {
  if (process.platform !== 'linux') return;
  const none = new Uint8Array(new ArrayBuffer(16));
  foreign('int setrlimit(int, uintptr_t)')(RLIMIT_CORE, addressOf(none));
  // An ordinary user's process would lose the way to its own entries of /proc with it.
  if (process.geteuid?.() === 0) {
    foreign('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)')(PR_SET_DUMPABLE, 0, 0, 0, 0);
  }
}

/** What this thread may use: the bits of its permitted set, and whether it can gain others. */
export function privileges(): { readonly permitted: bigint; readonly noNewPrivileges: boolean } {
  const status = readFileSync('/proc/thread-self/status', 'ascii');
  return {
    permitted: BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`),
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
  };
}

function isConfined(keep: readonly number[]): boolean {
  const { permitted, noNewPrivileges } = privileges();
  const wanted = keep.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
  return noNewPrivileges && (permitted & ~wanted) === 0n;
}

function capabilityHeader(): Uint8Array {
  return new Uint8Array(new Uint32Array([LINUX_CAPABILITY_VERSION_3, 0]).buffer);
}

/** Effective, permitted and inheritable, the low words first: no more than there is already. */
function sets(keep: readonly number[], inheritable: boolean): Uint8Array {
  const { permitted } = privileges();
  const wanted = keep.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n) & permitted;
  const [low, high] = [Number(wanted & 0xffff_ffffn), Number(wanted >> 32n)];
  const inherited = inheritable ? [low, high] : [0, 0];
  return new Uint8Array(new Uint32Array([low, low, inherited[0]!, high, high, inherited[1]!]).buffer);
}

function startAnew(further: readonly string[], descriptors: readonly number[]): never {
  const [programAndCommand, rest] = [process.argv.slice(1, 3), process.argv.slice(3)];
  const words = [process.execPath, ...process.execArgv, ...programAndCommand, ...further, ...rest];
  const texts = words.map((word) => bytesOf(word));
  // Node marks what it was given to be closed by exec.
  const fcntl = foreign('int fcntl(int, int, int)');
  for (const fd of descriptors) fcntl(fd, F_SETFD, 0);
  const pointers = new BigUint64Array([...texts.map((text) => BigInt(addressOf(text))), 0n]);
  foreign('int execv(uintptr_t, uintptr_t)')(addressOf(texts[0]!), addressOf(new Uint8Array(pointers.buffer)));
  throw new Error(`cannot start ${process.execPath} anew: ${errnoName(errno())}`);
}

/** With its final zero, in a buffer of its own that does not move. */
function bytesOf(text: string): Uint8Array {
  const encoded = new TextEncoder().encode(`${text}\0`);
  const bytes = new Uint8Array(new ArrayBuffer(encoded.length));
  bytes.set(encoded);
  return bytes;
}

function check(call: string, result: number): void {
  if (result !== 0) throw new Error(`privileges cannot be given up: ${call} fails with ${errnoName(errno())}`);
}
