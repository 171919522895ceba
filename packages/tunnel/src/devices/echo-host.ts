import { PacketBatch } from '@sealane/protocol';
import { DeviceClosedError } from '../model.ts';
import type { PacketDevice } from '../model.ts';
import { parseEcho, targetOf, turnIntoReply } from './echo-packet.ts';

export interface EchoHostOptions {
  /** The far end of a memory pair; the host owns it from here on. */
  readonly device: PacketDevice;
  /** The host's own addresses, 4 or 16 bytes each: requests to others are ignored. */
  readonly addresses: readonly Uint8Array[];
}

const BATCH_PACKETS = 64;
const BATCH_BYTES = 2 ** 18;

/** The smallest host there is: it answers ICMP and ICMPv6 echo requests to its addresses and nothing else. */
export class EchoHost {
  readonly #device: PacketDevice;
  readonly #addresses: ReadonlySet<string>;
  readonly #batch = new PacketBatch(new Uint8Array(BATCH_BYTES), BATCH_PACKETS);
  #answered = 0;
  #ignored = 0;
  #refused = 0;

  constructor(options: EchoHostOptions) {
    this.#device = options.device;
    this.#addresses = new Set(options.addresses.map((address) => address.join('.')));
    this.#device.start({ readable: () => this.#answerAll(), link: () => undefined, closed: () => undefined });
  }

  /** Requests answered, packets that were none of ours, and replies that the device would not take. */
  get counts(): { readonly answered: number; readonly ignored: number; readonly refused: number } {
    return { answered: this.#answered, ignored: this.#ignored, refused: this.#refused };
  }

  async close(): Promise<void> {
    await this.#device.close();
  }

  #answerAll(): void {
    const batch = this.#batch;
    try {
      for (;;) {
        batch.clear();
        if (this.#device.read(batch) === 0) return;
        for (let i = 0; i < batch.count; i++) this.#answer(batch.offsets[i]!, batch.lengths[i]!);
      }
    } catch (error) {
      if (!(error instanceof DeviceClosedError)) throw error;
    }
  }

  #answer(offset: number, length: number): void {
    const { buffer, view } = this.#batch;
    const echo = parseEcho(view, offset, length);
    if (echo?.kind !== 'request' || !this.#addresses.has(targetOf(buffer, offset, echo).join('.'))) {
      this.#ignored++;
      return;
    }
    turnIntoReply(view, offset, echo);
    if (this.#device.write(buffer, offset, length)) this.#answered++;
    else this.#refused++;
  }
}
