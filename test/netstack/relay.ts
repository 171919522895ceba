/** A stack of ours with a link in front of it that loses, delays, reorders and repeats packets, in real time. */
import { PacketBatch as Outbox, type IpAddress, Stack, type StackOptions, parseAddress } from '@sealane/netstack';
import { Dice } from '../../packages/netstack/test/support/random.ts';

export const STACK = { 4: '192.0.2.2', 6: 'fd00:5ea::2' } as const;

export interface Faults {
  /** Probabilities for each packet. */
  loss?: number;
  duplicate?: number;
  /** Milliseconds one way, and so much more at most, drawn for each packet: reorders. */
  delay?: number;
  jitter?: number;
  /** Decides packet by packet; true loses it. */
  drop?: (packet: Uint8Array) => boolean;
}

export interface RelayOptions extends Partial<Omit<StackOptions, 'output' | 'random' | 'onPending'>> {
  readonly faults?: Faults;
}

interface Flying {
  readonly at: number;
  readonly packet: Uint8Array;
  readonly toStack: boolean;
}

export function address(text: string): IpAddress {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new TypeError(`not an address: ${text}`);
  return parsed;
}

export class Relay {
  readonly stack: Stack;
  /** Of both directions. */
  faults: Faults;
  readonly #send: (packet: Uint8Array) => void;
  readonly #out: Outbox;
  readonly #dice = new Dice(7);
  #flying: Flying[] = [];
  #timer: NodeJS.Timeout | undefined;
  #turnPending = false;
  #closed = false;

  /** `send` hands a packet to the far side; it is good only during the call. */
  constructor({ faults = {}, ...options }: RelayOptions, send: (packet: Uint8Array) => void) {
    this.faults = faults;
    this.#send = send;
    const mtu = options.mtu ?? 1500;
    this.#out = new Outbox(256, mtu);
    this.stack = new Stack({
      addresses: [address(STACK[4]), ...(mtu >= 1280 ? [address(STACK[6])] : [])],
      ...options,
      mtu,
      output: this.#out,
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
      onPending: () => this.turnSoon(),
    });
  }

  /** Takes a packet from the far side; `turn` follows after the last one. */
  receive(packet: Uint8Array): void {
    this.#carry(packet, true);
  }

  turnSoon(): void {
    if (this.#turnPending || this.#closed) return;
    this.#turnPending = true;
    setImmediate(() => {
      this.#turnPending = false;
      this.turn();
    });
  }

  turn(): void {
    if (this.#closed) return;
    const now = performance.now();
    const due = this.#flying.filter(({ at }) => at <= now).toSorted((a, b) => a.at - b.at);
    if (due.length > 0) this.#flying = this.#flying.filter(({ at }) => at > now);
    for (const { packet, toStack } of due) this.#arrive(packet, toStack);
    for (let fits = false; !fits;) {
      fits = this.stack.tick(performance.now());
      const out = this.#out;
      for (let n = 0; n < out.count; n++) {
        const from = out.offsets[n]!;
        this.#carry(out.buffer.subarray(from, from + out.lengths[n]!), false);
      }
      out.clear();
    }
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #carry(packet: Uint8Array, toStack: boolean): void {
    const { loss = 0, duplicate = 0, delay = 0, jitter = 0, drop } = this.faults;
    if (this.#dice.next() < loss || drop?.(packet) === true) return;
    const copies = this.#dice.next() < duplicate ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (delay + jitter === 0) this.#arrive(packet, toStack);
      else {
        const at = performance.now() + delay + jitter * this.#dice.next();
        this.#flying.push({ at, packet: packet.slice(), toStack });
      }
    }
  }

  #arrive(packet: Uint8Array, toStack: boolean): void {
    if (toStack) this.stack.receive(packet, 0, packet.length, performance.now());
    else this.#send(packet);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#flying.reduce((least, { at }) => Math.min(least, at), this.stack.nextDeadline());
    if (next === Infinity) return;
    this.#timer = setTimeout(() => this.turn(), Math.min(2 ** 31 - 1, Math.max(0, next - performance.now())));
  }
}
