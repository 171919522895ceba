import { PacketBatch } from '@sealane/protocol';
import { parseAddress, StackDevice, TunnelNetwork } from '@sealane/tunnel';
import type { PacketDevice } from '@sealane/tunnel';

/** Inside stacks, too, only addresses that never leave this computer. */
export const LEFT = '127.99.0.1';
export const RIGHT = '127.99.0.2';
export const LEFT6 = 'fd99::1';
export const RIGHT6 = 'fd99::2';

export interface Pair {
  readonly left: TunnelNetwork;
  readonly right: TunnelNetwork;
  readonly leftDevice: StackDevice;
  readonly rightDevice: StackDevice;
  close(): Promise<void>;
}

/** Holds packets back while it is shut. */
export class Gate {
  #held: (() => void)[] | undefined;

  shut(): void {
    this.#held ??= [];
  }

  open(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const pass of held) pass();
  }

  /** Calls `pass` now, or once open. */
  through(pass: () => void): void {
    if (this.#held === undefined) pass();
    else this.#held.push(pass);
  }
}

/** Two stacks of this process with a wire between them, and a gate for what goes from left to right. */
export function stackPair(gate: Gate = new Gate()): Pair {
  const leftDevice = stackOf('left', LEFT, LEFT6);
  const rightDevice = stackOf('right', RIGHT, RIGHT6);
  wire(leftDevice, rightDevice, gate);
  const left = new TunnelNetwork(leftDevice, { families: [4, 6] });
  const right = new TunnelNetwork(rightDevice, { families: [4, 6] });
  const close = async (): Promise<void> => {
    await Promise.all([leftDevice.close(), rightDevice.close()]);
  };
  return { left, right, leftDevice, rightDevice, close };
}

export function stackOf(name: string, ...addresses: readonly string[]): StackDevice {
  return new StackDevice({ name, mtu: 1420, addresses: addresses.map((text) => parseAddress(text)!) });
}

/** Hands each packet that one device has to the other, as a pair of lanes does it. */
export function wire(a: PacketDevice, b: PacketDevice, gate: Gate = new Gate()): void {
  for (const [from, to, way] of [
    [a, b, gate],
    [b, a, new Gate()],
  ] as const) {
    const batch = new PacketBatch(new Uint8Array(128 * 1_600), 128);
    from.start({
      readable: () => {
        for (;;) {
          batch.clear();
          if (from.read(batch) === 0) return;
          for (let i = 0; i < batch.count; i++) {
            const packet = batch.buffer.slice(batch.offsets[i], batch.offsets[i]! + batch.lengths[i]!);
            way.through(() => to.write(packet, 0, packet.length));
          }
        }
      },
      link: () => undefined,
      closed: () => undefined,
    });
  }
}
