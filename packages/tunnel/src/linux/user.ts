/** From root to an ordinary user with a few capabilities left (capabilities(7), "Effect of user ID changes on capabilities"). */
import { becomeCapable } from './confine.ts';
import { addressOf, errno, errnoName, foreign, viewOf } from './foreign.ts';

const PR_SET_KEEPCAPS = 8;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;
/** Where a struct passwd has its two numbers, behind two pointers. */
const PASSWD_IDS = 16;

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

/** The ids of a user of this system, by name or number. */
export function findUser(name: string): UserIds | undefined {
  if (process.platform !== 'linux' || name.includes('\0')) return undefined;
  const text = Uint8Array.from(new TextEncoder().encode(`${name}\0`));
  const entry = /^[0-9]{1,9}$/.test(name)
    ? foreign('uintptr_t getpwuid(unsigned int)')(Number(name))
    : foreign('uintptr_t getpwnam(uintptr_t)')(addressOf(text));
  if (entry === 0) return undefined;
  const ids = new DataView(viewOf(entry, PASSWD_IDS + 8));
  return { uid: ids.getUint32(PASSWD_IDS, true), gid: ids.getUint32(PASSWD_IDS + 4, true) };
}

/** To be called on each thread that is to have capabilities afterwards: all others lose theirs with `becomeUser`. */
export function holdCapabilities(): void {
  if (prctl(PR_SET_KEEPCAPS, 1, 0) !== 0) throw new Error(`capabilities cannot be held: ${errnoName(errno())}`);
}

/** Makes the whole process the user's, its threads too; the main thread alone can. */
export function becomeUser({ uid, gid }: UserIds): void {
  process.setgroups!([gid]);
  process.setgid!(gid);
  process.setuid!(uid);
}

/** To be called on each of the threads that held: they have these and no others, and so have programs that they start. */
export function takeCapabilities(keep: readonly number[]): void {
  becomeCapable(keep, true);
  for (const bit of keep) {
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit) !== 0) {
      throw new Error(`capability ${bit} cannot be handed on: ${errnoName(errno())}`);
    }
  }
}

function prctl(option: number, first: number, second: number): number {
  return foreign('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)')(
    option,
    first,
    second,
    0,
    0,
  );
}
