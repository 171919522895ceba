import { availableParallelism } from 'node:os';

const MOST = 4;

/** How many lanes a tunnel gets when nobody says: one on two cores and less, because both ends of its programs need them too. */
export function defaultLanes(): number {
  return Math.max(1, Math.min(MOST, Math.floor(availableParallelism() / 2)));
}
