/**
 * A host's TCP/IP stack over packets: packets in by `receive`, packets out into a sink, time by argument. It has no clock, no
 * randomness and no sockets of its own. Nothing a remote host sends makes it throw; what it refuses is counted in `drops`.
 */
import { type Endpoint, type IpAddress, isUnicast } from './address.ts';
import type { DropCounters } from './drops.ts';
import { type HostOptions, StackHost } from './host.ts';
import { sendEcho } from './icmp.ts';
import { type EchoReply, IcmpInput } from './icmp-input.ts';
import { IpPacket, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, destinationOf, sourceOf } from './ip.ts';
import { parseIpv4 } from './ipv4.ts';
import { parseIpv6 } from './ipv6.ts';
import { viewOf } from './output.ts';
import { DEFAULT_REASSEMBLY_LIMITS, Reassembler, type ReassemblyLimits } from './reassembly.ts';
import type { ConnectionHandler, TcpConnection } from './tcp/connection.ts';
import { TcpLayer } from './tcp/layer.ts';
import type { IncomingHandler, TcpListener } from './tcp/listeners.ts';
import { DEFAULT_TCP_OPTIONS, type TcpOptions } from './tcp/tcb.ts';
import { UdpLayer, type UdpRequest, type UdpSocket, type UdpSocketOptions } from './udp.ts';

export interface StackOptions extends HostOptions {
  /** Take packets for any destination, and hand what no listener wants to `onIncoming` and `onUdp`. */
  readonly anyDestination?: boolean;
  /** In transparent mode: connection requests that no listener takes. */
  readonly onIncoming?: IncomingHandler;
  /** In transparent mode: first datagrams that no socket takes. */
  readonly onUdp?: (request: UdpRequest) => void;
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

const MAX_ECHO_DATA = 65_507;
/** Who serves strangers need not hold buffers for one that never reads. */
const TRANSPARENT_ZERO_WINDOW_MS = 30 * 60_000;

export class Stack {
  readonly drops: DropCounters;
  readonly #host: StackHost;
  readonly #anyDestination: boolean;
  readonly #reassembler: Reassembler;
  readonly #tcp: TcpLayer;
  readonly #udp: UdpLayer;
  readonly #icmp: IcmpInput;
  readonly #packet = new IpPacket();
  #packetsIn = 0;

  /** Throws RangeError when `mtu` is too small for the addresses. */
  constructor(options: StackOptions) {
    const smallest = options.addresses.some(({ family }) => family === 6) ? 1280 : 576;
    if (!(options.mtu >= smallest && options.mtu <= 65_535))
      throw new RangeError(`mtu: must lie in ${smallest}..65535`);
    const host = new StackHost(options);
    this.#host = host;
    this.drops = host.drops;
    this.#anyDestination = options.anyDestination === true;
    this.#reassembler = new Reassembler({ ...DEFAULT_REASSEMBLY_LIMITS, ...options.reassembly }, host.sourceKey);
    const zeroWindowTimeoutMs = this.#anyDestination ? TRANSPARENT_ZERO_WINDOW_MS : Infinity;
    this.#tcp = new TcpLayer(host, { ...DEFAULT_TCP_OPTIONS, zeroWindowTimeoutMs, ...options.tcp });
    this.#udp = new UdpLayer(host);
    this.#icmp = new IcmpInput(host, this.#tcp, this.#udp);
    if (this.#anyDestination) {
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
    this.#host.advanceClock(now);
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
    this.#host.advanceClock(now);
    this.#host.beginFlush();
    return this.#tcp.flush(now);
  }

  /** Does what is due by time, then flushes. Call at `nextDeadline`; early or spurious calls do no harm. */
  tick(now: number): boolean {
    this.#host.advanceClock(now);
    this.#host.timers.expire(this.#host.now);
    this.#tcp.expire(this.#host.now);
    this.drops['fragment-timeout'] += this.#reassembler.expire(this.#host.now);
    return this.flush(now);
  }

  /** No later than when `tick` has something to do; Infinity when nothing is under way. */
  nextDeadline(): number {
    return Math.min(this.#host.timers.next(), this.#tcp.nextDeadline(), this.#reassembler.nextDeadline());
  }

  /** Opens a TCP connection. Throws TypeError without a local address of the family, RangeError when ports or limits are exhausted. */
  connect(remote: Endpoint, handler: ConnectionHandler, options: ConnectOptions = {}): TcpConnection {
    if (!Number.isInteger(remote.port) || remote.port < 1 || remote.port > 65_535) {
      throw new RangeError('remote.port: must lie in 1..65535');
    }
    const local = options.local ?? this.#host.localFor(remote.address.family);
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
    const local = this.#host.localFor(remote.family);
    if (local === undefined) throw new TypeError('remote: the stack has no address of this family');
    if (data.length > MAX_ECHO_DATA) throw new RangeError(`data: ${data.length} bytes do not fit an echo request`);
    this.#host.pending();
    return sendEcho(
      this.#host.writer,
      local,
      remote,
      true,
      id & 0xffff,
      sequence & 0xffff,
      data,
      this.#host.fragmenting(remote),
    );
  }

  status(): StackStatus {
    return {
      connections: this.#tcp.connections,
      halfOpen: this.#tcp.halfOpen,
      timeWaits: this.#tcp.timeWaits,
      udpFlows: this.#udp.flows,
      reassemblies: this.#reassembler.datagrams,
      sources: this.#tcp.sources,
      timers: this.#host.timers.size,
      bufferBytes: this.#host.pool.used,
      packetsIn: this.#packetsIn,
      packetsOut: this.#host.writer.packets,
      bytesOut: this.#host.writer.bytes,
      retransmissions: this.#tcp.retransmissions.segments,
    };
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
    const isOurs = this.#anyDestination
      ? isUnicast(packet.d0, packet.d1, packet.d2, packet.d3)
      : this.#host.isLocal(packet);
    if (!isOurs) this.drops['not-ours']++;
    else if (!packet.isFragment) this.#dispatch(packet);
    else if (mayBeFragment) this.#reassemble(packet);
    else this.drops['fragment-invalid']++;
  }

  #dispatch(packet: IpPacket): void {
    const { protocol } = packet;
    if (protocol === PROTOCOL_TCP) this.#tcp.receive(packet, this.#host.now);
    else if (protocol === PROTOCOL_UDP) this.#udp.receive(packet);
    else if (protocol === (packet.family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) this.#icmp.receive(packet);
    else {
      this.drops['unknown-protocol']++;
      if (this.#host.isLocal(packet)) {
        const about = packet.buffer.subarray(packet.start, packet.start + packet.length);
        this.#host.sendUnreachable(about, destinationOf(packet), sourceOf(packet), 'protocol-unreachable');
      }
    }
  }

  #reassemble(packet: IpPacket): void {
    const result = this.#reassembler.add(packet, this.#host.now);
    if (result === undefined) return;
    if (typeof result === 'string') {
      this.drops[result]++;
      return;
    }
    packet.buffer = result;
    packet.view = viewOf(result);
    this.#parse(packet, 0, result.length, false);
  }
}
