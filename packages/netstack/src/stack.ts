/**
 * A host's TCP/IP stack over packets: packets in by `receive`, packets out into a sink, time by argument. It has no clock, no
 * randomness and no sockets of its own. Nothing a remote host sends makes it throw; what it refuses is counted in `drops`.
 */
import { type Endpoint, type IpAddress, isUnicast } from './address.ts';
import { BufferPool } from './byte-ring.ts';
import { type DropCounters, createDropCounters } from './drops.ts';
import { type Fragmenting, type UnreachableReason, sendEcho, sendTooBig, sendUnreachable } from './icmp.ts';
import { type EchoReply, type IcmpHost, IcmpInput } from './icmp-input.ts';
import { IpPacket, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, destinationOf, sourceOf } from './ip.ts';
import { parseIpv4 } from './ipv4.ts';
import { parseIpv6 } from './ipv6.ts';
import { DEFAULT_LIMITS, type StackLimits, defaultSourceKey } from './limits.ts';
import { PacketWriter, viewOf } from './output.ts';
import { PathMtu } from './path-mtu.ts';
import { DEFAULT_REASSEMBLY_LIMITS, Reassembler, type ReassemblyLimits } from './reassembly.ts';
import type { PacketSink } from './sink.ts';
import { SipHash } from './siphash.ts';
import type { ConnectionHandler, TcpConnection } from './tcp/connection.ts';
import { TcpLayer, type TcpLayerHost } from './tcp/layer.ts';
import type { IncomingHandler, TcpListener } from './tcp/listeners.ts';
import { DEFAULT_TCP_OPTIONS, type TcpOptions } from './tcp/tcb.ts';
import { TimerHeap } from './timer-heap.ts';
import { TokenBucket } from './token-bucket.ts';
import { type UdpHost, UdpLayer, type UdpRequest, type UdpSocket, type UdpSocketOptions } from './udp.ts';

export interface StackOptions {
  /** Where packets are written to. */
  readonly output: PacketSink;
  /** Cryptographically strong random bytes. */
  readonly random: (length: number) => Uint8Array;
  /** Largest IP packet in bytes, 576 (1280 with IPv6) or more. */
  readonly mtu: number;
  /** Packets to these addresses are ours. */
  readonly addresses: readonly IpAddress[];
  /** Take packets for any destination, and hand what no listener wants to `onIncoming` and `onUdp`. */
  readonly anyDestination?: boolean;
  /** In transparent mode: connection requests that no listener takes. */
  readonly onIncoming?: IncomingHandler;
  /** In transparent mode: first datagrams that no socket takes. */
  readonly onUdp?: (request: UdpRequest) => void;
  /** Something waits for `flush`; called from within any call that is not a flush, at most once until the next one. */
  readonly onPending?: () => void;
  /** What a remote address counts as for limits by source. */
  readonly sourceKey?: (address: IpAddress) => string | number;
  readonly limits?: Partial<StackLimits>;
  readonly reassembly?: Partial<ReassemblyLimits>;
  readonly tcp?: Partial<TcpOptions>;
}

export interface ConnectOptions {
  /** By default the stack's first address of the remote's family. */
  readonly local?: IpAddress;
  /** 0, the default, for a free one. */
  readonly localPort?: number;
}

/** What a stack holds; all of it is bounded by its limits. */
export interface StackStatus {
  readonly connections: number;
  readonly halfOpen: number;
  readonly timeWaits: number;
  readonly udpFlows: number;
  readonly reassemblies: number;
  readonly sources: number;
  readonly timers: number;
  readonly bufferBytes: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
  readonly retransmissions: number;
}

const ICMP_ERRORS_PER_SECOND = 100;
const MAX_ECHO_DATA = 65_507;
/** Who serves strangers need not hold buffers for one that never reads. */
const TRANSPARENT_ZERO_WINDOW_MS = 30 * 60_000;
/** Drawn at once, as a draw of a few bytes costs as much. */
const RANDOM_BYTES = 256;

export class Stack {
  readonly drops: DropCounters = createDropCounters();
  readonly #options: StackOptions;
  readonly #addresses: IpAddress[];
  readonly #writer: PacketWriter;
  readonly #pool: BufferPool;
  readonly #timers = new TimerHeap();
  readonly #pathMtu: PathMtu;
  readonly #reassembler: Reassembler;
  readonly #icmpBucket = new TokenBucket(ICMP_ERRORS_PER_SECOND, ICMP_ERRORS_PER_SECOND);
  readonly #tcp: TcpLayer;
  readonly #udp: UdpLayer;
  readonly #icmp: IcmpInput;
  readonly #packet = new IpPacket();
  #now = 0;
  #isPending = false;
  #randomWords: DataView = new DataView(new ArrayBuffer(0));
  #randomAt = 0;
  #packetsIn = 0;

  /** Throws RangeError when `mtu` is too small for the addresses. */
  constructor(options: StackOptions) {
    const smallest = options.addresses.some(({ family }) => family === 6) ? 1280 : 576;
    if (!(options.mtu >= smallest && options.mtu <= 65_535))
      throw new RangeError(`mtu: must lie in ${smallest}..65535`);
    this.#options = options;
    this.#addresses = [...options.addresses];
    this.#writer = new PacketWriter(options.output);
    this.#pathMtu = new PathMtu(options.mtu);
    const { sourceKey = defaultSourceKey } = options;
    this.#reassembler = new Reassembler({ ...DEFAULT_REASSEMBLY_LIMITS, ...options.reassembly }, sourceKey);
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#pool = new BufferPool(limits.maxBufferBytes);
    const host = this.#layerHost(limits);
    const zeroWindowTimeoutMs = options.anyDestination === true ? TRANSPARENT_ZERO_WINDOW_MS : Infinity;
    this.#tcp = new TcpLayer(host, { ...DEFAULT_TCP_OPTIONS, zeroWindowTimeoutMs, ...options.tcp });
    this.#udp = new UdpLayer(host);
    this.#icmp = new IcmpInput(this.#icmpHost());
    if (options.anyDestination === true) {
      this.#tcp.onIncoming = options.onIncoming;
      this.#udp.onRequest = options.onUdp;
    }
  }

  /** Told of replies to `ping`. */
  get onEchoReply(): ((reply: EchoReply) => void) | undefined {
    return this.#icmp.onEchoReply;
  }

  set onEchoReply(handler: ((reply: EchoReply) => void) | undefined) {
    this.#icmp.onEchoReply = handler;
  }

  /** Takes one IP packet, `length` bytes at `offset`. Answers and events wait for `flush`, so that a batch gets one. */
  receive(buffer: Uint8Array, offset: number, length: number, now: number): void {
    this.#advanceClock(now);
    this.#packetsIn++;
    const packet = this.#packet;
    if (packet.buffer !== buffer) {
      packet.buffer = buffer;
      packet.view = viewOf(buffer);
    }
    this.#parse(packet, offset, length, true);
  }

  /** Tells owners what happened and sends what is due. Call after a batch of packets or of calls; false when the sink filled up. */
  flush(now: number): boolean {
    this.#advanceClock(now);
    this.#isPending = false;
    return this.#tcp.flush(now);
  }

  /** Does what is due by time, then flushes. Call at `nextDeadline`; early or spurious calls do no harm. */
  tick(now: number): boolean {
    this.#advanceClock(now);
    this.#timers.expire(this.#now);
    this.#tcp.expire(this.#now);
    this.drops['fragment-timeout'] += this.#reassembler.expire(this.#now);
    return this.flush(now);
  }

  /** No later than when `tick` has something to do; Infinity when nothing is under way. */
  nextDeadline(): number {
    return Math.min(this.#timers.next(), this.#tcp.nextDeadline(), this.#reassembler.nextDeadline());
  }

  /** Opens a TCP connection. Throws TypeError without a local address of the family, RangeError when ports or limits are exhausted. */
  connect(remote: Endpoint, handler: ConnectionHandler, options: ConnectOptions = {}): TcpConnection {
    if (!Number.isInteger(remote.port) || remote.port < 1 || remote.port > 65_535) {
      throw new RangeError('remote.port: must lie in 1..65535');
    }
    const local = options.local ?? this.#localFor(remote.address.family);
    if (local === undefined || local.family !== remote.address.family) {
      throw new TypeError('local: the stack has no address of this family');
    }
    return this.#tcp.connect(local, options.localPort ?? 0, remote, handler);
  }

  /** Listens for TCP connections. Throws RangeError when the port is taken. */
  listen(options: { readonly port: number; readonly address?: IpAddress }, onIncoming: IncomingHandler): TcpListener {
    return this.#tcp.listen(options.port, options.address, onIncoming);
  }

  /** Binds a UDP socket. Throws RangeError when the port is taken. */
  bindUdp(options: UdpSocketOptions): UdpSocket {
    return this.#udp.bind(options);
  }

  /** Sends an echo request; false when it had to be dropped. Throws TypeError without a local address of the family, RangeError when it is too long. */
  ping(remote: IpAddress, id: number, sequence: number, data: Uint8Array): boolean {
    const local = this.#localFor(remote.family);
    if (local === undefined) throw new TypeError('remote: the stack has no address of this family');
    if (data.length > MAX_ECHO_DATA) throw new RangeError(`data: ${data.length} bytes do not fit an echo request`);
    this.#notifyPending();
    return sendEcho(this.#writer, local, remote, true, id & 0xffff, sequence & 0xffff, data, this.#fragmenting(remote));
  }

  status(): StackStatus {
    return {
      connections: this.#tcp.connections,
      halfOpen: this.#tcp.halfOpen,
      timeWaits: this.#tcp.timeWaits,
      udpFlows: this.#udp.flows,
      reassemblies: this.#reassembler.datagrams,
      sources: this.#tcp.sources,
      timers: this.#timers.size,
      bufferBytes: this.#pool.used,
      packetsIn: this.#packetsIn,
      packetsOut: this.#writer.packets,
      bytesOut: this.#writer.bytes,
      retransmissions: this.#tcp.retransmissions.segments,
    };
  }

  /** Time only moves forward in here, whatever the caller's clock does. */
  #advanceClock(now: number): void {
    if (now > this.#now) this.#now = now;
  }

  #parse(packet: IpPacket, offset: number, length: number, mayBeFragment: boolean): void {
    const version = length > 0 ? packet.view.getUint8(offset) >>> 4 : 0;
    const fault =
      version === 4
        ? parseIpv4(packet, packet.view, offset, length)
        : version === 6
          ? parseIpv6(packet, packet.view, offset, length)
          : 'malformed-ip';
    if (fault !== undefined) {
      this.drops[fault]++;
      return;
    }
    if (!isUnicast(packet.s0, packet.s1, packet.s2, packet.s3)) {
      this.drops['bad-source']++;
      return;
    }
    // A sender of fragments takes no harm from others.
    if (!mayBeFragment) packet.dontFragment = false;
    const isOurs =
      this.#options.anyDestination === true
        ? isUnicast(packet.d0, packet.d1, packet.d2, packet.d3)
        : this.#isLocal(packet);
    if (!isOurs) this.drops['not-ours']++;
    else if (!packet.isFragment) this.#dispatch(packet);
    else if (mayBeFragment) this.#reassemble(packet);
    else this.drops['fragment-invalid']++;
  }

  #dispatch(packet: IpPacket): void {
    const { protocol } = packet;
    if (protocol === PROTOCOL_TCP) this.#tcp.receive(packet, this.#now);
    else if (protocol === PROTOCOL_UDP) this.#udp.receive(packet);
    else if (protocol === (packet.family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) this.#icmp.receive(packet);
    else {
      this.drops['unknown-protocol']++;
      if (this.#isLocal(packet)) {
        const about = packet.buffer.subarray(packet.start, packet.start + packet.length);
        this.#reportUnreachable(about, destinationOf(packet), sourceOf(packet), 'protocol-unreachable');
      }
    }
  }

  #reassemble(packet: IpPacket): void {
    const result = this.#reassembler.add(packet, this.#now);
    if (result === undefined) return;
    if (typeof result === 'string') {
      this.drops[result]++;
      return;
    }
    packet.buffer = result;
    packet.view = viewOf(result);
    this.#parse(packet, 0, result.length, false);
  }

  #reportUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void {
    const source = reason === 'port-unreachable' ? local : (this.#localFor(local.family) ?? local);
    this.#reportError(() => sendUnreachable(this.#writer, source, remote, reason, about));
  }

  #reportTooBig(about: Uint8Array, local: IpAddress, remote: IpAddress, mtu: number): void {
    const source = this.#localFor(local.family) ?? local;
    this.#reportError(() => sendTooBig(this.#writer, source, remote, mtu, about));
  }

  /** RFC 1122 §3.2.2: never about an ICMP error; those do not come here. RFC 1812 §4.3.2.8: at a bounded rate. */
  #reportError(send: () => boolean): void {
    if (!this.#icmpBucket.take(this.#now)) {
      this.drops['icmp-rate-limited']++;
      return;
    }
    if (!send()) this.drops['output-full']++;
    this.#notifyPending();
  }

  #isLocal(packet: IpPacket): boolean {
    const addresses = this.#addresses;
    for (let i = 0; i < addresses.length; i++) {
      const address = addresses[i]!;
      if (address.d === packet.d3 && address.c === packet.d2 && address.b === packet.d1 && address.a === packet.d0) {
        return true;
      }
    }
    return false;
  }

  #localFor(family: 4 | 6): IpAddress | undefined {
    return this.#addresses.find((address) => address.family === family);
  }

  #fragmenting(destination: IpAddress): Fragmenting {
    return { mtu: this.#pathMtu.of(destination, this.#now), id: this.#random32() };
  }

  #notifyPending(): void {
    if (this.#isPending) return;
    this.#isPending = true;
    this.#options.onPending?.();
  }

  #random32(): number {
    if (this.#randomAt === this.#randomWords.byteLength) {
      this.#randomWords = viewOf(this.#options.random(RANDOM_BYTES));
      this.#randomAt = 0;
    }
    this.#randomAt += 4;
    return this.#randomWords.getInt32(this.#randomAt - 4);
  }

  #layerHost(limits: StackLimits): TcpLayerHost & UdpHost {
    const currentTime = (): number => this.#now;
    const sourceKey = this.#options.sourceKey ?? defaultSourceKey;
    return {
      writer: this.#writer,
      pool: this.#pool,
      timers: this.#timers,
      drops: this.drops,
      limits,
      hash: new SipHash(this.#options.random(16)),
      get now() {
        return currentTime();
      },
      random32: () => this.#random32(),
      sourceKey,
      pathMtu: (destination) => this.#pathMtu.of(destination, this.#now),
      localFor: (family) => this.#localFor(family),
      isLocal: (packet) => this.#isLocal(packet),
      sendUnreachable: (about, local, remote, reason) => this.#reportUnreachable(about, local, remote, reason),
      sendTooBig: (about, local, remote, mtu) => this.#reportTooBig(about, local, remote, mtu),
      pending: () => this.#notifyPending(),
    };
  }

  #icmpHost(): IcmpHost {
    const currentTime = (): number => this.#now;
    return {
      writer: this.#writer,
      drops: this.drops,
      paths: this.#pathMtu,
      tcp: this.#tcp,
      udp: this.#udp,
      get now() {
        return currentTime();
      },
      isLocal: (packet) => this.#isLocal(packet),
      fragmenting: (destination) => this.#fragmenting(destination),
      pending: () => this.#notifyPending(),
    };
  }
}
