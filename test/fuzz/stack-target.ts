/** A stack under fire, with connections that its owner uses in every way, and an attacker who sees all that it sends. */
import { PacketBatch, Stack, type ConnectionHandler, type TcpConnection } from '@sealane/netstack';
import { type TcpFields, icmp, ip, parse, tcp, udpPayload } from '../../packages/netstack/test/support/packets.ts';
import { A4, A6, B4, B6, Drain, Sim, Source } from '../../packages/netstack/test/support/sim.ts';
import type { Generator } from '../sim/random.ts';
import { mutate } from './mutate.ts';
import { checkWhole, repaired, turnRound } from './packet-checks.ts';

/** So small that all of them are reached. */
export const LIMITS = {
  maxConnections: 60,
  maxConnectionsPerSource: 28,
  // Less than two sources may have, so that this bound is met too.
  maxHalfOpen: 30,
  maxHalfOpenPerSource: 18,
  maxTimeWait: 20,
  maxUdpFlows: 20,
  maxUdpFlowsPerSource: 15,
  maxBufferBytes: 1 << 20,
  maxBufferBytesPerSource: 64 << 10,
} as const;

const MTU = 1_420;
const FLOWS = 96;
const FIRST_PORT = 1_000;
const KEPT = 64;
const REMEMBERED = 64;
/** A number that lies so far from another belongs to another connection of the same ports. */
const FAR = 2 ** 30;

/** What the attacker knows of one pair of ports. */
interface Flow {
  readonly family: 4 | 6;
  readonly fromPort: number;
  toPort: number;
  /** The next numbers of both sides, as the stack's packets tell. */
  seq: number;
  ack: number;
  timestamp: number;
  /** First number and end of all that was sent, for each connection that there may have been. */
  readonly sent: { base: number; end: number }[];
}

export class StackTarget {
  readonly stack: Stack;
  /** Of connections, at any time. */
  readonly states = new Set<string>();
  readonly errors = new Set<string>();
  readonly #random: Generator;
  readonly #noise: Uint8Array;
  readonly #out = new PacketBatch(4_096, MTU);
  readonly #flows: Flow[];
  readonly #connections = new Set<TcpConnection>();
  /** Packets that the stack sent, to quote or to change. */
  readonly #seen: Uint8Array[] = [];
  #now = 1_000;

  constructor(random: Generator) {
    this.#random = random;
    this.#noise = random.bytes(4_000);
    const draw = random.fork('stack');
    this.stack = new Stack({
      output: this.#out,
      random: (length) => draw.bytes(length),
      mtu: MTU,
      addresses: [B4, B6],
      anyDestination: true,
      limits: LIMITS,
      onIncoming: (incoming) => {
        // Some wait for an answer until they give up.
        if (random.chance(0.1)) return;
        if (random.chance(0.1)) incoming.reject(random.chance(0.5) ? 'host-unreachable' : 'reset');
        else this.#use(incoming.accept(this.#handler()));
      },
      onUdp: (request) => {
        if (random.chance(0.3)) request.reject('prohibited');
        else request.accept({ onMessage: (data, flow) => void flow.send(data) }, 1 + random.below(60_000));
      },
    });
    this.stack.bindUdp({ port: 9, onMessage: () => undefined, onUnreachable: () => undefined });
    this.#flows = Array.from({ length: FLOWS }, (_, i) => ({
      family: i % 2 === 0 ? 4 : 6,
      fromPort: FIRST_PORT + i,
      toPort: 80 + (i % 3),
      seq: 0,
      ack: 0,
      timestamp: 0,
      sent: [],
    }));
  }

  /** Gives the stack one packet of any kind. */
  attack(): void {
    const random = this.#random;
    const flow = this.#flows[random.below(FLOWS)]!;
    const dice = random.below(100);
    if (dice === 0 && random.chance(0.03)) this.#gaps(flow);
    else if (dice < 40) this.#segment(flow);
    else if (dice < 52) this.#open(flow);
    else if (dice < 62) this.#give(this.#error());
    else if (dice < 74) this.#give(this.#datagram());
    else if (dice < 76) this.#give(random.bytes(random.below(200)));
    else this.#changed();
  }

  /** What the owner does, and the stack's turn; checks all that it says. */
  turn(): void {
    const random = this.#random;
    for (const connection of this.#connections) {
      this.states.add(connection.state);
      if (random.chance(0.3)) this.#act(connection);
    }
    if (this.#connections.size < 20 && random.chance(0.3)) this.#dial();
    if (random.chance(0.01)) this.stack.ping(random.chance(0.5) ? A4 : A6, 1, 1, random.bytes(random.below(3_000)));
    if (random.chance(0.05)) this.#datagrams();
    if (random.chance(0.001)) for (let i = 0; i < 200; i++) this.#give(ip(A4, B4, 255, this.#bytes(i)));
    // Mostly little time passes, and now and then as much as timeouts take.
    this.pass(random.chance(0.005) ? random.below(200_000) : random.below(40));
  }

  /** Lets this much time pass. */
  pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (let turns = 0; ; turns++) {
      this.#now = Math.min(end, Math.max(this.#now, this.stack.nextDeadline()));
      for (let fits = false; !fits;) {
        fits = this.stack.tick(this.#now);
        this.#collect();
      }
      if (this.stack.nextDeadline() > end) break;
      if (turns > 100_000) throw new Error('something stays due');
    }
    this.#now = end;
  }

  /** States of the connections that the owner has not let go of. */
  held(): string[] {
    return Array.from(this.#connections, ({ state }) => state);
  }

  /** The owner closes everything. */
  letGo(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    this.pass(0);
  }

  /** Whether an honest host gets what it asks for. */
  serves(): boolean {
    const sim = new Sim(1);
    const drain = new Drain(1);
    const stop = this.stack.listen({ port: 7_777, address: B6 }, (incoming) => void incoming.accept(drain));
    const source = new Source(1, 100_000);
    const { stack, out } = sim.a;
    stack.connect({ address: B6, port: 7_777 }, source);
    for (let step = 0; step < 100_000 && !drain.closed; step++) {
      this.#now++;
      for (const [from, batch, to] of [
        [stack, out, this.stack],
        [this.stack, this.#out, stack],
      ] as const) {
        from.tick(this.#now);
        for (let i = 0; i < batch.count; i++) to.receive(batch.buffer, batch.offsets[i]!, batch.lengths[i]!, this.#now);
        batch.clear();
      }
    }
    stop.close();
    return drain.received === 100_000 && drain.wrongAt === -1 && drain.error === undefined;
  }

  // The owner.

  #handler(): ConnectionHandler {
    return {
      onConnect: (connection) => this.#act(connection),
      onReadable: (connection) => {
        if (this.#random.chance(0.7)) connection.read();
      },
      onClose: (connection, error) => {
        this.states.add(connection.state);
        if (error !== undefined) this.errors.add(error);
        this.#connections.delete(connection);
        // What it has not read is its own until it lets go.
        connection.close();
      },
    };
  }

  #use(connection: TcpConnection): void {
    this.#connections.add(connection);
  }

  #act(connection: TcpConnection): void {
    const random = this.#random;
    const dice = random.below(100);
    if (dice < 40) connection.read(random.below(5_000) + 1);
    else if (dice < 70) {
      if (connection.writableLength > 0) connection.write(this.#bytes(random.below(4_000)));
    } else if (dice < 78) connection.end();
    else if (dice < 82) {
      connection.close();
      this.#connections.delete(connection);
    } else if (dice < 84) {
      connection.abort();
      this.#connections.delete(connection);
    } else if (dice < 92) connection.setNoDelay(random.chance(0.5));
    else connection.setKeepAlive(random.chance(0.5) ? 5_000 + random.below(50_000) : 0, 5_000, 2);
  }

  #dial(): void {
    const flow = this.#flows[this.#random.below(FLOWS)]!;
    const [remote, local] = flow.family === 4 ? [A4, B4] : [A6, B6];
    try {
      const options = { local, localPort: flow.toPort };
      this.#use(this.stack.connect({ address: remote, port: flow.fromPort }, this.#handler(), options));
    } catch (error) {
      // Its ports are in use, or there are as many connections as may be.
      if (!(error instanceof RangeError)) throw error;
    }
  }

  #datagrams(): void {
    const socket = this.stack.bindUdp({ onMessage: () => undefined, onUnreachable: () => undefined });
    socket.send(this.#random.bytes(this.#random.below(4_000)), { address: A6, port: 1 + this.#random.below(100) });
    socket.close();
  }

  // The attacker.

  #give(packet: Uint8Array): void {
    this.stack.receive(packet, 0, packet.length, this.#now);
  }

  #tcp(flow: Flow, fields: Pick<TcpFields, 'seq' | 'flags'> & Partial<TcpFields>): void {
    const [from, to] = flow.family === 4 ? [A4, B4] : [A6, B6];
    const packet = tcp({ from, fromPort: flow.fromPort, to, toPort: flow.toPort, ...fields });
    this.#noteSent(flow, fields.seq | 0, fields.flags, fields.data?.length ?? 0);
    this.#give(packet);
  }

  #open(flow: Flow): void {
    const random = this.#random;
    const seq = random.below(2 ** 32) | 0;
    flow.seq = (seq + 1) | 0;
    const isAnswer = random.chance(0.2);
    const ack = isAnswer ? flow.ack : 0;
    this.#tcp(flow, {
      seq,
      ack,
      flags: isAnswer ? 'sa' : 's',
      window: random.below(65_536),
      options: this.#synOptions(),
    });
  }

  /** Every other byte of what would come next: more gaps than are kept. */
  #gaps(flow: Flow): void {
    for (let i = 1; i <= 600; i++) {
      const seq = (flow.seq + 2 * i) | 0;
      this.#tcp(flow, { seq, ack: flow.ack, flags: 'a', data: this.#bytes(1), options: this.#options(flow, true) });
    }
  }

  #segment(flow: Flow): void {
    const random = this.#random;
    // Half of them are what an honest host would send next.
    const isHonest = random.chance(0.5);
    const seq = flow.seq + (isHonest ? 0 : this.#offset());
    const ack = flow.ack + (isHonest ? 0 : this.#offset());
    const flags = isHonest && random.chance(0.9) ? (random.chance(0.15) ? 'fa' : 'a') : this.#flags();
    const window = random.chance(0.2) ? 0 : random.below(65_536);
    const data = this.#bytes(random.chance(0.5) ? 0 : random.below(1_300));
    this.#tcp(flow, { seq, ack, flags, window, data, options: this.#options(flow, isHonest) });
    if (isHonest) flow.seq = (seq + data.length + (flags.includes('f') ? 1 : 0)) | 0;
  }

  /** Cheap ones: what streams carry is of no interest here. */
  #bytes(length: number): Uint8Array {
    return this.#noise.subarray(0, length);
  }

  #offset(): number {
    const random = this.#random;
    const near = [-1, 1, -1_300, 1_300, -65_535, 65_535, 262_144, -262_144, 2 ** 31, 2 ** 30];
    return random.chance(0.3) ? random.below(2 ** 32) : near[random.below(near.length)]!;
  }

  #flags(): string {
    return Array.from('fsrpau')
      .filter((letter) => this.#random.chance(letter === 'a' ? 0.7 : 0.2))
      .join('');
  }

  #synOptions(): readonly number[] {
    const random = this.#random;
    if (random.chance(0.2)) return this.#garbage();
    const mss = [2, 4, random.below(6), random.below(256)];
    const scale = [3, 3, random.below(20), 1];
    const timestamps = [1, 1, 8, 10, ...random.bytes(4), 0, 0, 0, 0];
    return [mss, scale, [4, 2, 1, 1], timestamps].filter(() => random.chance(0.7)).flat();
  }

  #options(flow: Flow, isHonest: boolean): readonly number[] {
    const random = this.#random;
    if (!isHonest && random.chance(0.2)) return this.#garbage();
    const word = (value: number): number[] => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
    const timestamps = [
      1,
      1,
      8,
      10,
      ...word((random.chance(0.9) ? 2 ** 31 - 1 : random.below(2 ** 32)) | 0),
      ...word(flow.timestamp),
    ];
    if (random.chance(0.7)) return timestamps;
    const edge = (): number[] => word((flow.ack + random.below(5_000) - 2_000) | 0);
    return [...timestamps, 1, 1, 5, 18, ...edge(), ...edge(), ...edge(), ...edge()];
  }

  #garbage(): readonly number[] {
    return [...this.#random.bytes(4 * this.#random.below(11))];
  }

  /** An ICMP error about something that the stack has sent, as it was or changed. */
  #error(): Uint8Array {
    const random = this.#random;
    const about = this.#seen[random.below(this.#seen.length)] ?? random.bytes(60);
    const isV4 = about[0]! >>> 4 === 4;
    const quote = random.chance(0.3) ? mutate(random, about, this.#seen) : about;
    const mtu = [0, 68, 552, 600, 1_280, 1_300, 1_500, 65_535][random.below(8)]!;
    const kinds = isV4
      ? ([
          [3, random.below(16)],
          [3, 4],
          [11, 0],
          [12, 0],
          [random.below(256), 0],
        ] as const)
      : ([
          [1, random.below(7)],
          [2, 0],
          [3, 0],
          [4, random.below(3)],
          [random.below(256), 0],
        ] as const);
    const [type, code] = kinds[random.below(kinds.length)]!;
    const [from, to] = isV4 ? [A4, B4] : [A6, B6];
    return icmp(from, to, type, code, mtu, quote.slice(0, 28 + random.below(300)));
  }

  /** An honest router's word about a packet of the stack. */
  #unreachable(about: Uint8Array): Uint8Array {
    const isV4 = about[0]! >>> 4 === 4;
    const codes = isV4 ? [0, 1, 3, 13] : [0, 1, 3, 4];
    const [from, to] = isV4 ? [A4, B4] : [A6, B6];
    return icmp(from, to, isV4 ? 3 : 1, codes[this.#random.below(4)]!, 0, about);
  }

  /** A datagram or a fragment of one. */
  #datagram(): Uint8Array {
    const random = this.#random;
    const [from, to] = random.chance(0.5) ? [A4, B4] : [A6, B6];
    const payload = udpPayload(
      from,
      1 + random.below(300),
      to,
      random.chance(0.5) ? 9 : 1 + random.below(300),
      this.#bytes(random.below(1_200)),
    );
    if (random.chance(0.5)) return ip(from, to, 17, payload);
    const offset = 8 * random.below(random.chance(0.9) ? 20 : 8_192);
    return ip(from, to, 17, payload, { id: random.below(40), offset, more: random.chance(0.7) });
  }

  /** One of the stack's own packets turned round and changed, its checksum mostly right again. */
  #changed(): void {
    const random = this.#random;
    const base = this.#seen[random.below(this.#seen.length)];
    if (base === undefined) return;
    const packet = mutate(random, turnRound(base), this.#seen).slice(0, MTU);
    const { protocol } = repaired(packet, random.chance(0.8));
    const length = packet[0]! >>> 4 === 4 ? 40 : 60;
    if (protocol === 6 && packet.length >= length) {
      const { fromPort, seq, data, flags } = parse(packet);
      const flow = this.#flows[fromPort - FIRST_PORT];
      if (flow !== undefined) this.#noteSent(flow, seq, flags, data.length);
    }
    this.#give(packet);
  }

  #noteSent(flow: Flow, seq: number, flags: string, length: number): void {
    const end = (seq + length + (flags.includes('s') ? 1 : 0) + (flags.includes('f') ? 1 : 0)) | 0;
    if (flags.includes('s')) {
      flow.sent.push({ base: seq, end });
      if (flow.sent.length > REMEMBERED) flow.sent.shift();
    }
    for (const part of flow.sent) {
      if (Math.abs((seq - part.base) | 0) < FAR && ((end - part.end) | 0) > 0) part.end = end;
    }
  }

  /** Looks at all that the stack has sent. */
  #collect(): void {
    const out = this.#out;
    let dialled: Uint8Array | undefined;
    for (let i = 0; i < out.count; i++) {
      const packet = out.buffer.slice(out.offsets[i], out.offsets[i]! + out.lengths[i]!);
      checkWhole(packet, MTU);
      this.#seen[this.#seen.length < KEPT ? this.#seen.length : this.#random.below(KEPT)] = packet;
      const isV4 = packet[0]! >>> 4 === 4;
      if (packet[isV4 ? 9 : 6] === 6 && this.#learn(isV4 ? 4 : 6, packet) === 's') dialled = packet;
    }
    out.clear();
    if (dialled !== undefined && this.#random.chance(0.5)) this.#give(this.#unreachable(dialled));
  }

  /** Returns the flags. */
  #learn(family: 4 | 6, packet: Uint8Array): string {
    const { fromPort, toPort, seq, ack, flags, data, options } = parse(packet);
    const flow = this.#flows[toPort - FIRST_PORT];
    if (flow === undefined || flow.family !== family) return flags;
    flow.toPort = fromPort;
    flow.ack = (seq + data.length + (flags.includes('s') ? 1 : 0) + (flags.includes('f') ? 1 : 0)) | 0;
    if (options.length >= 12)
      flow.timestamp = new DataView(options.buffer, options.byteOffset).getInt32(options.length >= 20 ? 8 : 4);
    if (!flags.includes('a') || flags.includes('r')) return flags;
    const isKnown = flow.sent.some(({ base, end }) => ((ack - base) | 0) > 0 && ((ack - end) | 0) <= 0);
    if (!isKnown) throw new Error(`acknowledged ${ack}, which nobody sent: ${JSON.stringify(flow)}`);
    flow.seq = ack;
    return flags;
  }
}
