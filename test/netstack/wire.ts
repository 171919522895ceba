/** A stack of ours opposite a kernel's: on a TUN interface that lives in a host of a lab, with a relay in between. */
import type { Stack } from '@sealane/netstack';
import { PacketBatch } from '@sealane/protocol';
import { type TunDevice, openTun } from '@sealane/tunnel';
import { type Host, type Lab, execute } from '../support/lab.ts';
import { type Faults, Relay, type RelayOptions } from './relay.ts';

export const KERNEL = { 4: '192.0.2.1', 6: 'fd00:5ea::1' } as const;

export interface WireOptions extends RelayOptions {
  /** The interface's; the stack's is `mtu`. */
  readonly deviceMtu?: number;
}

const READS_AT_ONCE = 8;

export class Wire implements AsyncDisposable {
  readonly name: string;
  readonly #relay: Relay;
  readonly #tun: TunDevice;
  readonly #in: PacketBatch = new PacketBatch(new Uint8Array(4 << 20), 256);
  #closed = false;

  private constructor(tun: TunDevice, options: RelayOptions) {
    this.#tun = tun;
    this.name = tun.name;
    this.#relay = new Relay(options, (packet) => tun.write(packet, 0, packet.length));
    tun.start({ readable: () => this.#read(), link: () => {}, closed: () => {} });
  }

  /** Makes the interface in `host` with the kernel's addresses, and the stack behind it. */
  static async open(lab: Lab, host: Host, { deviceMtu, ...options }: WireOptions = {}): Promise<Wire> {
    const mtu = deviceMtu ?? options.mtu ?? 1500;
    const tun = openTun({ name: lab.interfaceName('t'), mtu });
    const wire = new Wire(tun, options);
    const moved = await execute('ip', ['link', 'set', tun.name, 'netns', host.name]);
    if (moved.code !== 0) throw new Error(`cannot move ${tun.name} into ${host.name}: ${moved.stderr}`);
    await host.must('ip', ['addr', 'add', `${KERNEL[4]}/24`, 'dev', tun.name]);
    if (mtu >= 1280) await host.must('ip', ['addr', 'add', `${KERNEL[6]}/64`, 'dev', tun.name, 'nodad']);
    await host.must('ip', ['link', 'set', tun.name, 'up']);
    return wire;
  }

  get stack(): Stack {
    return this.#relay.stack;
  }

  get faults(): Faults {
    return this.#relay.faults;
  }

  set faults(faults: Faults) {
    this.#relay.faults = faults;
  }

  turnSoon(): void {
    this.#relay.turnSoon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#relay.close();
    await this.#tun.close();
  }

  #read(): void {
    const batch = this.#in;
    for (let i = 0; i < READS_AT_ONCE && !this.#closed; i++) {
      batch.count = 0;
      if (this.#tun.read(batch) === 0) break;
      for (let n = 0; n < batch.count; n++) {
        const from = batch.offsets[n]!;
        this.#relay.receive(batch.buffer.subarray(from, from + batch.lengths[n]!));
      }
      this.#relay.turn();
    }
  }
}
