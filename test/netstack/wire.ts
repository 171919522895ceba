/**
 * A stack of ours opposite a kernel's: on a TUN interface that lives in a host of a lab, with a relay in between that loses,
 * delays, reorders and repeats packets.
 */
import { PacketBatch as Outbox, type IpAddress, Stack, type StackOptions, parseAddress } from '@sealane/netstack';
import { PacketBatch } from '@sealane/protocol';
import { type TunDevice, openTun } from '@sealane/tunnel';
import { Dice } from '../../packages/netstack/test/support/random.ts';
import { type Host, type Lab, execute } from '../support/lab.ts';

export const KERNEL = { 4: '192.0.2.1', 6: 'fd00:5ea::1' } as const;
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

export interface WireOptions extends Partial<Omit<StackOptions, 'output' | 'random' | 'onPending'>> {
  readonly faults?: Faults;
  /** The interface's; the stack's is `mtu`. */
  readonly deviceMtu?: number;
}

interface Flying {
  readonly at: number;
  readonly packet: Uint8Array;
  readonly toStack: boolean;
}

const READS_AT_ONCE = 8;

export function address(text: string): IpAddress {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new TypeError(`not an address: ${text}`);
  return parsed;
}

export class Wire implements AsyncDisposable {
  readonly stack: Stack;
  readonly name: string;
  /** Of both directions. */
  faults: Faults;
  readonly #tun: TunDevice;
  readonly #out: Outbox;
  readonly #in: PacketBatch = new PacketBatch(new Uint8Array(4 << 20), 256);
  readonly #dice = new Dice(7);
  #flying: Flying[] = [];
  #timer: NodeJS.Timeout | undefined;
  #turnPending = false;
  #closed = false;

  private constructor(tun: TunDevice, { faults = {}, ...options }: WireOptions) {
    this.#tun = tun;
    this.name = tun.name;
    this.faults = faults;
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
    tun.start({ readable: () => this.#read(), link: () => {}, closed: () => {} });
  }

  /** Makes the interface in `host` with the kernel's addresses, and the stack behind it. */
  static async open(lab: Lab, host: Host, options: WireOptions = {}): Promise<Wire> {
    const mtu = options.deviceMtu ?? options.mtu ?? 1500;
    const tun = openTun({ name: lab.interfaceName('t'), mtu });
    const wire = new Wire(tun, options);
    const moved = await execute('ip', ['link', 'set', tun.name, 'netns', host.name]);
    if (moved.code !== 0) throw new Error(`cannot move ${tun.name} into ${host.name}: ${moved.stderr}`);
    await host.must('ip', ['addr', 'add', `${KERNEL[4]}/24`, 'dev', tun.name]);
    if (mtu >= 1280) await host.must('ip', ['addr', 'add', `${KERNEL[6]}/64`, 'dev', tun.name, 'nodad']);
    await host.must('ip', ['link', 'set', tun.name, 'up']);
    return wire;
  }

  turnSoon(): void {
    if (this.#turnPending || this.#closed) return;
    this.#turnPending = true;
    setImmediate(() => {
      this.#turnPending = false;
      this.#turn();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#tun.close();
  }

  #read(): void {
    const batch = this.#in;
    for (let i = 0; i < READS_AT_ONCE && !this.#closed; i++) {
      batch.count = 0;
      if (this.#tun.read(batch) === 0) break;
      for (let n = 0; n < batch.count; n++) {
        const from = batch.offsets[n]!;
        this.#carry(batch.buffer.subarray(from, from + batch.lengths[n]!), true);
      }
      this.#turn();
    }
  }

  #turn(): void {
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
    else this.#tun.write(packet, 0, packet.length);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#flying.reduce((least, { at }) => Math.min(least, at), this.stack.nextDeadline());
    if (next === Infinity) return;
    this.#timer = setTimeout(() => this.#turn(), Math.min(2 ** 31 - 1, Math.max(0, next - performance.now())));
  }
}
