/**
 * A host's TCP/IP stack over packets: packets in by `receive`, packets out into a sink, time by argument. It has no clock, no
 * randomness and no sockets of its own. Nothing a remote host sends makes it throw; what it refuses is counted in `drops`.
 */
import { type Endpoint, IpAddress, isUnicast } from './address.ts';
import { BufferPool } from './byte-ring.ts';
import { isChecksumValid, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { type DropCounters, createDropCounters } from './drops.ts';
import {
  ICMP_HEADER_LENGTH,
  type UnreachableReason,
  icmpKind,
  isTooBig,
  sendEcho,
  sendUnreachable,
  unreachableReason,
} from './icmp.ts';
import { IpPacket, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP } from './ip.ts';
import { parseIpv4 } from './ipv4.ts';
import { NEXT_HEADER_FRAGMENT, parseIpv6 } from './ipv6.ts';
import { DEFAULT_LIMITS, type StackLimits, defaultSourceKey } from './limits.ts';
import { PacketWriter, viewOf } from './output.ts';
import { PathMtu } from './path-mtu.ts';
import { DEFAULT_REASSEMBLY_LIMITS, Reassembler, type ReassemblyLimits } from './reassembly.ts';
import type { PacketSink } from './sink.ts';
import { SipHash } from './siphash.ts';
import type { ConnectionHandler, TcpConnection } from './tcp/connection.ts';
import { type IncomingHandler, TcpLayer, type TcpLayerHost, type TcpListener } from './tcp/layer.ts';
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

/** An echo reply to a `ping`. */
export interface EchoReply {
  readonly remote: IpAddress;
  readonly id: number;
  readonly sequence: number;
  /** A view, good only during the call. */
  readonly data: Uint8Array;
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
/** Drawn at once, as a draw of a few bytes costs as much. */
const RANDOM_BYTES = 256;

export class Stack {
  readonly drops: DropCounters = createDropCounters();
  /** Replies to `ping`. */
  onEchoReply: ((reply: EchoReply) => void) | undefined = undefined;
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
    this.#reassembler = new Reassembler({ ...DEFAULT_REASSEMBLY_LIMITS, ...options.reassembly });
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#pool = new BufferPool(limits.maxBufferBytes);
    const host = this.#layerHost(limits);
    this.#tcp = new TcpLayer(host, { ...DEFAULT_TCP_OPTIONS, ...options.tcp });
    this.#udp = new UdpLayer(host);
    if (options.anyDestination === true) {
      this.#tcp.onIncoming = options.onIncoming;
      this.#udp.onRequest = options.onUdp;
    }
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

  /** Sends an echo request; false when it had to be dropped. Throws TypeError without a local address of the family. */
  ping(remote: IpAddress, id: number, sequence: number, data: Uint8Array): boolean {
    const local = this.#localFor(remote.family);
    if (local === undefined) throw new TypeError('remote: the stack has no address of this family');
    this.#notifyPending();
    return sendEcho(this.#writer, local, remote, true, id & 0xffff, sequence & 0xffff, data);
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
    else if (protocol === (packet.family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) this.#receiveIcmp(packet);
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

  #receiveIcmp(packet: IpPacket): void {
    const { view, payload: at, payloadLength: length, family } = packet;
    const { s0, s1, s2, s3, d0, d1, d2, d3 } = packet;
    const pseudo = family === 4 ? 0 : pseudoHeaderSum(s0, s1, s2, s3, d0, d1, d2, d3, PROTOCOL_ICMPV6) + length;
    if (length < ICMP_HEADER_LENGTH) {
      this.drops['malformed-transport']++;
      return;
    }
    if (!isChecksumValid(pseudo + sumBytes(view, at, length))) {
      this.drops['bad-checksum']++;
      return;
    }
    const type = view.getUint8(at);
    const kind = icmpKind(family, type);
    if (kind === 'error') {
      this.#receiveIcmpError(packet, type, view.getUint8(at + 1), view.getUint32(at + 4));
      return;
    }
    const id = view.getUint16(at + 4);
    const sequence = view.getUint16(at + 6);
    const data = packet.buffer.subarray(at + ICMP_HEADER_LENGTH, at + length);
    if (kind === 'echo-request' && this.#isLocal(packet)) {
      const headerLength = family === 4 ? 20 : 40;
      if (length + headerLength > this.#options.mtu) {
        this.drops['icmp-ignored']++;
        return;
      }
      if (!sendEcho(this.#writer, destinationOf(packet), sourceOf(packet), false, id, sequence, data)) {
        this.drops['output-full']++;
      }
      this.#notifyPending();
    } else if (kind === 'echo-reply' && this.onEchoReply !== undefined) {
      this.onEchoReply({ remote: sourceOf(packet), id, sequence, data });
    } else {
      this.drops['icmp-ignored']++;
    }
  }

  /** RFC 792, RFC 4443 §2.4: an error counts only for a packet of ours that is under way (RFC 5927). */
  #receiveIcmpError(packet: IpPacket, type: number, code: number, rest: number): void {
    const quote = parseQuote(packet);
    const reason = unreachableReason(packet.family, type, code);
    const tooBig = isTooBig(packet.family, type, code);
    if (quote === undefined || (reason === undefined && !tooBig)) {
      this.drops['icmp-ignored']++;
      return;
    }
    const { local, remote } = quote;
    if (quote.protocol === PROTOCOL_UDP) {
      // Anyone may guess a datagram's ports: only a socket that exists is told, and path MTU claims need a flow to believe.
      if (reason !== undefined) this.#udp.onUnreachable(local, remote, reason);
      else this.drops['icmp-ignored']++;
      return;
    }
    const tcb = this.#tcp.findQuoted(local.address, local.port, remote.address, remote.port, quote.sequence);
    if (tcb === undefined) {
      this.drops['icmp-ignored']++;
    } else if (tooBig) {
      const claimed = packet.family === 4 ? rest & 0xffff : rest;
      this.#tcp.onPathMtu(tcb, this.#pathMtu.lower(remote.address, claimed, quote.packetLength, this.#now));
    } else if (reason !== undefined) {
      this.#tcp.onUnreachable(tcb, reason);
    }
  }

  #reportUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void {
    // RFC 1122 §3.2.2: never about an ICMP error; those do not come here. RFC 1812 §4.3.2.8: at a bounded rate.
    if (!this.#icmpBucket.take(this.#now)) {
      this.drops['icmp-rate-limited']++;
      return;
    }
    const source = reason === 'port-unreachable' ? local : (this.#localFor(local.family) ?? local);
    if (!sendUnreachable(this.#writer, source, remote, reason, about)) this.drops['output-full']++;
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
      pending: () => this.#notifyPending(),
    };
  }
}

function sourceOf(packet: IpPacket): IpAddress {
  return new IpAddress(packet.s0, packet.s1, packet.s2, packet.s3);
}

function destinationOf(packet: IpPacket): IpAddress {
  return new IpAddress(packet.d0, packet.d1, packet.d2, packet.d3);
}

interface Quote {
  readonly protocol: number;
  /** Our end, which sent the quoted packet, and the other. */
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly sequence: number;
  readonly packetLength: number;
}

/** The packet that an ICMP error is about, as far as it is quoted. */
function parseQuote(packet: IpPacket): Quote | undefined {
  const { view } = packet;
  const at = packet.payload + ICMP_HEADER_LENGTH;
  const length = packet.payloadLength - ICMP_HEADER_LENGTH;
  const isV4 = packet.family === 4;
  if (length < (isV4 ? 28 : 48) || view.getUint8(at) >>> 4 !== packet.family) return undefined;
  const headerLength = isV4 ? (view.getUint8(at) & 15) * 4 : 40;
  if (headerLength < 20 || length < headerLength + 8) return undefined;
  const protocol = view.getUint8(at + (isV4 ? 9 : 6));
  // Only first fragments carry ports, and of our IPv6 datagrams we do not look into fragments at all.
  if (protocol === NEXT_HEADER_FRAGMENT || (isV4 && (view.getUint16(at + 6) & 0x1fff) !== 0)) return undefined;
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return undefined;
  const upper = at + headerLength;
  const address = (offset: number): IpAddress =>
    isV4
      ? new IpAddress(0, 0, 0xffff, view.getInt32(offset))
      : new IpAddress(
          view.getInt32(offset),
          view.getInt32(offset + 4),
          view.getInt32(offset + 8),
          view.getInt32(offset + 12),
        );
  return {
    protocol,
    local: { address: address(at + (isV4 ? 12 : 8)), port: view.getUint16(upper) },
    remote: { address: address(at + (isV4 ? 16 : 24)), port: view.getUint16(upper + 2) },
    sequence: view.getInt32(upper + 4),
    packetLength: isV4 ? view.getUint16(at + 2) : 40 + view.getUint16(at + 4),
  };
}
