/** A TCP/IP stack inside a node of the world: what it sends goes into the tunnel, what the tunnel delivers comes to it. */
import { IpAddress, PacketBatch, Stack } from '@sealane/netstack';
import type { Node } from './node.ts';
import type { World } from './world.ts';

export class StackHost {
  readonly stack: Stack;
  readonly #node: Node;
  readonly #world: World;
  readonly #out = new PacketBatch(2_048, 1_500);
  #wakeAt = Infinity;

  constructor(world: World, node: Node, mtu: number) {
    this.#world = world;
    this.#node = node;
    const random = world.random.fork(`stack of ${node.name}`);
    this.stack = new Stack({
      output: this.#out,
      random: (length) => random.bytes(length),
      addresses: [addressOf(node)],
      mtu,
    });
    node.onPacket = (packet) => {
      this.stack.receive(packet, 0, packet.length, world.clock.now);
      this.turn();
      return true;
    };
  }

  /** Sends what there is to send and makes an appointment for what is due next: call after every call of the stack. */
  turn(): void {
    const { now } = this.#world.clock;
    for (let isDone = false; !isDone;) {
      isDone = this.stack.tick(now);
      const out = this.#out;
      const packets = Array.from({ length: out.count }, (_, i) =>
        out.buffer.slice(out.offsets[i], out.offsets[i]! + out.lengths[i]!),
      );
      out.clear();
      for (const packet of packets) this.#node.send(packet);
    }
    const at = this.stack.nextDeadline();
    if (at === Infinity || at >= this.#wakeAt) return;
    this.#wakeAt = at;
    this.#world.clock.at(at, () => {
      if (this.#wakeAt !== at) return;
      this.#wakeAt = Infinity;
      this.turn();
    });
  }
}

/** The node's inner IPv4 address. */
export function addressOf({ inner }: Node): IpAddress {
  const number = new DataView(inner.buffer, inner.byteOffset).getInt32(0);
  return new IpAddress(0, 0, 0xffff, number);
}
