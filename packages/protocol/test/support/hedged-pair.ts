/** Two devices that are configured for the post-quantum exchange, on a slow and otherwise perfect network, with the simulator's cheap cryptography. */
import type { Node } from '../../../../test/sim/node.ts';
import { toyCrypto } from '../../../../test/sim/toy-crypto.ts';
import { World, statusOf } from '../../../../test/sim/world.ts';
import { HOUR, SECOND } from './spec.ts';

export const DELAY = 40;
/** Both ways, with what a device needs to notice. */
export const WAY: number = 4 * DELAY;

export interface Pair {
  readonly world: World;
  readonly a: Node;
  readonly b: Node;
  /** A packet each way; says whether both came within a way and back. */
  readonly exchanges: () => boolean;
}

export function pair(seed: number, both: Parameters<World['pair']>[0] = { postQuantum: HOUR }): Pair {
  const world = new World({ seed, crypto: toyCrypto, link: { delay: DELAY } });
  const [a, b] = world.pair(both);
  let id = 0;
  const exchanges = (): boolean => {
    const before = [a.delivered.length, b.delivered.length];
    id += 1;
    world.ping(a, b, id);
    world.ping(b, a, id);
    const came = (): boolean => a.delivered.length > before[0]! && b.delivered.length > before[1]!;
    return world.runUntil(came, WAY);
  };
  return { world, a, b, exchanges };
}

/** Seconds of traffic, a packet each way in every `gap` of them. */
export function traffic({ world, exchanges }: Pair, seconds: number, gap = 1): void {
  for (let i = 0; i < seconds; i += gap) {
    exchanges();
    world.run(gap * SECOND - WAY);
  }
}

export const hedged = (node: Node, other: Node): boolean => statusOf(node, other).session?.hedged === true;
export const dropsOf = (node: Node): number =>
  Object.values(node.device.status(node.now).drops).reduce((sum, count) => sum + count, 0);
export const exchanged = (node: Node, other: Node): number => statusOf(node, other).postQuantum!.exchanges;
