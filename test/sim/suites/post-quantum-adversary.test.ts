/** Somebody on the path who drops, holds back, doubles and replays what he likes: no way back from a derived key, no broken tunnel. */
import { describe } from 'vitest';
import type { Datagram } from '../network.ts';
import type { Node } from '../node.ts';
import type { Generator } from '../random.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { peerOf, statusOf, World } from '../world.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const EPISODES = isLongRun ? 12 : 4;
const STEP = 250;
/** A side that hears nothing finds out after fifteen seconds; then a handshake, whose first answer may be refused. */
const CALM = 25 * SECOND;
const BOTH = { postQuantum: 10 * SECOND };

describe('post-quantum exchange', () => {
  for (const restarts of [false, true]) {
    simulate({
      goal: 'PQ',
      title: `${EPISODES} attacks on the path${restarts ? ' and on the processes' : ''}: never back from a derived key, traffic within ${CALM / SECOND} s after`,
      seeds: 6,
      worst: 'darkSeconds',
      run: (seed) => new Attack(seed, restarts).run(),
    });
  }
});

/** What happens to all datagrams of one kind from one side, for a while. */
type Treatment = 'pass' | 'drop' | 'hold' | 'copy';

class Attack {
  readonly #world: World;
  readonly #random: Generator;
  readonly #nodes: readonly [Node, Node];
  readonly #restarts: boolean;
  readonly #held: Datagram[] = [];
  readonly #treatments = new Map<string, Treatment>();
  readonly #newest = new Map<Node, number>();
  /** Which sides were seen hedged since both processes have a derived key in common. */
  readonly #hedged = new Set<Node>();
  #fresh: Node | undefined;
  #agreed = false;
  #speaks = [true, true];
  #id = 0;
  #moments = 0;

  constructor(seed: number, restarts: boolean) {
    this.#world = new World({ seed, crypto: toyCrypto, link: { delay: 1 + (seed % 40) } });
    this.#world.log.keep = () => false;
    this.#random = this.#world.random.fork('attack');
    this.#nodes = this.#world.pair(BOTH);
    this.#restarts = restarts;
    for (const node of this.#nodes) node.onPacket = () => (this.#newest.set(node, this.#world.clock.now), true);
  }

  run(): { darkSeconds: number; exchanges: number; hedgedMoments: number } {
    const [a, b] = this.#nodes;
    let dark = 0;
    for (let episode = 0; episode < EPISODES; episode++) {
      this.#attack(this.#random.between(MINUTE, 6 * MINUTE));
      dark = Math.max(dark, this.#recover());
    }
    const { exchanges } = statusOf(a, b).postQuantum!;
    return {
      darkSeconds: dark / SECOND,
      exchanges: exchanges + statusOf(b, a).postQuantum!.exchanges,
      hedgedMoments: this.#moments,
    };
  }

  #attack(ms: number): void {
    const { clock, network } = this.#world;
    const end = clock.now + ms;
    network.filter = (datagram) => this.#passes(datagram);
    let change = 0;
    while (clock.now < end) {
      if (clock.now >= change) {
        change = clock.now + this.#random.between(SECOND, 40 * SECOND);
        this.#treatments.clear();
        this.#speaks = [this.#random.chance(0.7), this.#random.chance(0.7)];
      }
      if (this.#random.chance(0.1)) this.#deliver();
      if (this.#random.chance(0.01)) this.#pick(this.#nodes).rekey();
      if (this.#restarts && this.#random.chance(0.001)) this.#restart();
      this.#step('attack');
    }
    network.filter = () => true;
    this.#held.length = 0;
    this.#speaks = [true, true];
  }

  /** How long until a packet each way came. */
  #recover(): number {
    const { clock } = this.#world;
    const began = clock.now;
    const back = (): boolean => this.#nodes.every((node) => (this.#newest.get(node) ?? -1) > began);
    while (!back()) {
      require(clock.now - began < CALM, `dark for ${CALM / SECOND} s after the attack`);
      this.#step('recovery');
    }
    const dark = clock.now - began;
    const [a, b] = this.#nodes;
    while (!isHedged(a, b) || !isHedged(b, a)) {
      require(clock.now - began < 5 * MINUTE, 'not hedged five minutes after the attack');
      this.#step('recovery');
    }
    return dark;
  }

  #step(when: string): void {
    const [a, b] = this.#nodes;
    if (this.#speaks[0] === true) this.#world.ping(a, b, this.#id++);
    if (this.#speaks[1] === true) this.#world.ping(b, a, this.#id++);
    this.#world.run(STEP);
    // The process that began last has no key but those that the other has agreed on with it.
    this.#agreed ||= (this.#fresh === undefined ? [a, b] : [this.#fresh]).some((node) =>
      isHedged(node, node === a ? b : a),
    );
    if (!this.#agreed) return;
    for (const [node, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const { session } = statusOf(node, other);
      if (session?.hedged === true) this.#hedged.add(node);
      require(session?.hedged !== false || !this.#hedged.has(node), `${node.name} was brought back by the ${when}`);
    }
    if (this.#hedged.size === 2) this.#moments++;
  }

  #passes(datagram: Datagram): boolean {
    const { kind, from, bytes } = datagram;
    const what = `${from} ${kind} ${bytes.length > 1_000 ? bytes.length : ''}`;
    let treatment = this.#treatments.get(what);
    if (treatment === undefined) {
      treatment = this.#pick(['pass', 'pass', 'pass', 'drop', 'drop', 'hold', 'hold', 'copy'] as const);
      this.#treatments.set(what, treatment);
    }
    if (treatment === 'hold' || treatment === 'copy') {
      const isRare = kind !== 'data' || bytes.length > 1_000;
      if (isRare || this.#random.chance(0.1)) this.#held.push({ ...datagram, bytes: bytes.slice() });
    }
    return treatment === 'pass' || treatment === 'copy';
  }

  /** One of the datagrams that were held back, which he may keep to deliver it again. */
  #deliver(): void {
    if (this.#held.length === 0) return;
    // Rather a recent one: old ones are worth little, but something.
    const age = Math.floor(this.#random.next() ** 3 * this.#held.length);
    const i = this.#held.length - 1 - age;
    const { from, bytes } = this.#random.chance(0.8) ? this.#held.splice(i, 1)[0]! : this.#held[i]!;
    const [a, b] = this.#nodes;
    if (from === 'a') b.accept(bytes, a.endpoint);
    else a.accept(bytes, b.endpoint);
  }

  #restart(): void {
    const [a, b] = this.#nodes;
    const node = this.#pick(this.#nodes);
    node.kill();
    this.#world.run(this.#random.between(0, 5 * SECOND));
    node.restart();
    node.configure({ peers: [peerOf(node === a ? b : a, BOTH)] });
    this.#fresh = node;
    this.#agreed = false;
    this.#hedged.clear();
  }

  #pick<T>(among: readonly T[]): T {
    return among[this.#random.below(among.length)]!;
  }
}

function isHedged(node: Node, other: Node): boolean {
  return statusOf(node, other).session?.hedged === true;
}
