/** UDP (RFC 768): bound sockets, and flows to any destination for the transparent mode. */
import { type Endpoint, FIRST_EPHEMERAL_PORT, IpAddress } from './address.ts';
import { checksumOf, isChecksumValid, pseudoHeaderSum, sumBytes } from './checksum.ts';
import type { DropCounters } from './drops.ts';
import { type FlowEntry, FlowTable } from './flow-table.ts';
import { firstFragmentLength, sendFragments } from './fragment.ts';
import { type UnreachableReason, addressSum } from './icmp.ts';
import { type IpPacket, PROTOCOL_UDP, ipHeaderLength, writeIpHeader } from './ip.ts';
import { LargeDatagrams } from './large-datagrams.ts';
import { QUOTE_LENGTH, SourceCounter, type StackLimits } from './limits.ts';
import { type PacketWriter, viewOf } from './output.ts';
import type { Timed, TimerHeap } from './timer-heap.ts';

export const UDP_HEADER_LENGTH = 8;
const MAX_PAYLOAD_V4 = 65_507;
const MAX_PAYLOAD_V6 = 65_527;

/** `data` is a view into the packet and only good during the call. */
export type DatagramHandler = (data: Uint8Array, remote: Endpoint, local: Endpoint) => void;

export interface UdpSocketOptions {
  /** Undefined for every local address. */
  readonly address?: IpAddress;
  /** 0 for a free one. */
  readonly port?: number;
  readonly onMessage: DatagramHandler;
  /** An ICMP error says that a datagram did not arrive. */
  readonly onUnreachable?: (remote: Endpoint, reason: UnreachableReason) => void;
}

export interface UdpFlowHandler {
  /** `data` is a view into the packet and only good during the call. */
  onMessage(data: Uint8Array, flow: UdpFlow): void;
  /** The flow was idle for `idleMs` and is gone. */
  onClose?(): void;
}

/** What UDP needs of the stack. */
export interface UdpHost {
  readonly writer: PacketWriter;
  readonly timers: TimerHeap;
  readonly drops: DropCounters;
  readonly limits: StackLimits;
  readonly now: number;
  random32(): number;
  sourceKey(address: IpAddress): string | number;
  pathMtu(destination: IpAddress): number;
  localFor(family: 4 | 6): IpAddress | undefined;
  isLocal(packet: IpPacket): boolean;
  sendUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void;
  sendTooBig(about: Uint8Array, local: IpAddress, remote: IpAddress, mtu: number): void;
  pending(): void;
}

export class UdpSocket {
  readonly port: number;
  readonly address: IpAddress | undefined;
  readonly options: UdpSocketOptions;
  readonly #layer: UdpLayer;

  constructor(layer: UdpLayer, port: number, options: UdpSocketOptions) {
    this.#layer = layer;
    this.port = port;
    this.address = options.address;
    this.options = options;
  }

  /** Sends one datagram at once; false when it had to be dropped. Throws RangeError when it is too long, TypeError without a local address. */
  send(data: Uint8Array, remote: Endpoint, local: IpAddress | undefined = this.address): boolean {
    const source = local ?? this.#layer.localFor(remote.address.family);
    if (source === undefined || source.family !== remote.address.family) {
      throw new TypeError('local: the stack has no address of this family');
    }
    return this.#layer.send(source, this.port, remote.address, remote.port, data);
  }

  /** Tells `remote` by ICMP that what it sent here does not arrive. Throws TypeError without a local address. */
  unreachable(remote: Endpoint, reason: UnreachableReason, local: IpAddress | undefined = this.address): void {
    const own = local ?? this.#layer.localFor(remote.address.family);
    if (own === undefined || own.family !== remote.address.family) {
      throw new TypeError('local: the stack has no address of this family');
    }
    const path = { local: own, localPort: this.port, remote: remote.address, remotePort: remote.port };
    this.#layer.reportRefused(path, reason);
  }

  close(): void {
    this.#layer.unbind(this);
  }
}

/** Datagrams between one remote host and port and one destination that it spoke to. */
export class UdpFlow implements FlowEntry, Timed {
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  readonly source: string | number;
  readonly idleMs: number;
  handler: UdpFlowHandler;
  isOpen = true;
  /** The first datagram's headers, for an ICMP error to quote. */
  readonly quote: Uint8Array;
  /** Whether the datagram at hand must go whole or not at all. */
  dontFragment = false;
  flowHash = 0;
  nextInSlot: FlowEntry | undefined = undefined;
  deadline: number;
  heapIndex = -1;
  readonly #layer: UdpLayer;

  constructor(layer: UdpLayer, request: UdpRequest, handler: UdpFlowHandler, idleMs: number, now: number) {
    this.#layer = layer;
    this.local = request.local.address;
    this.localPort = request.local.port;
    this.remote = request.remote.address;
    this.remotePort = request.remote.port;
    this.source = request.source;
    this.quote = request.quote();
    this.handler = handler;
    this.idleMs = idleMs;
    this.deadline = now + idleMs;
  }

  /** Sends one datagram back, from the address that was spoken to; false when it had to be dropped. */
  send(data: Uint8Array): boolean {
    this.touch();
    return this.#layer.send(this.local, this.localPort, this.remote, this.remotePort, data);
  }

  /** Tells the other side by ICMP that the destination cannot be reached; the flow goes on. */
  unreachable(reason: UnreachableReason): void {
    this.#layer.reportUnreachable(this, reason);
  }

  /** Tells the other side by ICMP that a datagram of `length` bytes would need packets of more than `mtu`; the flow goes on. */
  packetTooBig(length: number, mtu: number): void {
    this.#layer.reportTooBig(this, length, mtu);
  }

  close(): void {
    this.#layer.forget(this);
  }

  /** Puts the idle timeout off. */
  touch(): void {
    this.deadline = this.#layer.now + this.idleMs;
  }

  onDeadline(): void {
    this.#layer.forget(this);
    this.handler.onClose?.();
  }
}

/** A datagram for a destination nobody is bound to. Good only during the call: accept or reject it there, else it is dropped. */
export interface UdpRequest {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly source: string | number;
  quote(): Uint8Array;
  /** Opens a flow; the datagram is its first message. Undefined when limits forbid. `idleMs` defaults to 120,000 (RFC 4787 REQ-5). */
  accept(handler: UdpFlowHandler, idleMs?: number): UdpFlow | undefined;
  reject(reason: UnreachableReason): void;
}

export class UdpLayer {
  onRequest: ((request: UdpRequest) => void) | undefined = undefined;
  readonly #host: UdpHost;
  readonly #sockets = new Map<number, UdpSocket[]>();
  readonly #flows: FlowTable<UdpFlow>;
  readonly #sources = new SourceCounter();
  readonly #large = new LargeDatagrams();

  constructor(host: UdpHost) {
    this.#host = host;
    this.#flows = new FlowTable(host.random32());
  }

  get now(): number {
    return this.#host.now;
  }

  get flows(): number {
    return this.#flows.size;
  }

  localFor(family: 4 | 6): IpAddress | undefined {
    return this.#host.localFor(family);
  }

  /** Throws RangeError when the port is taken. */
  bind(options: UdpSocketOptions): UdpSocket {
    const port = options.port === undefined || options.port === 0 ? this.#freePort() : options.port;
    const list = this.#sockets.get(port) ?? [];
    const isTaken = list.some(({ address }) =>
      address === undefined || options.address === undefined
        ? address === options.address
        : address.equals(options.address),
    );
    if (isTaken || port === 0) throw new RangeError(`port: ${port} is in use on this address`);
    const socket = new UdpSocket(this, port, options);
    list.push(socket);
    this.#sockets.set(port, list);
    return socket;
  }

  unbind(socket: UdpSocket): void {
    const left = (this.#sockets.get(socket.port) ?? []).filter((other) => other !== socket);
    if (left.length > 0) this.#sockets.set(socket.port, left);
    else this.#sockets.delete(socket.port);
  }

  forget(flow: UdpFlow): void {
    if (!flow.isOpen) return;
    flow.isOpen = false;
    flow.deadline = Infinity;
    this.#host.timers.remove(flow);
    this.#flows.delete(flow);
    this.#sources.remove(flow.source);
  }

  reportUnreachable(flow: UdpFlow, reason: UnreachableReason): void {
    this.#host.sendUnreachable(flow.quote, flow.local, flow.remote, reason);
    this.#host.pending();
  }

  reportRefused(path: Path, reason: UnreachableReason): void {
    this.#host.sendUnreachable(quoteOf(path, 0), path.local, path.remote, reason);
  }

  reportTooBig(flow: UdpFlow, length: number, mtu: number): void {
    this.#host.sendTooBig(quoteOf(flow, length), flow.local, flow.remote, mtu);
  }

  /** Takes the payload of `packet`. */
  receive(packet: IpPacket): void {
    const { drops } = this.#host;
    const { view, payload: at } = packet;
    if (packet.payloadLength < UDP_HEADER_LENGTH) {
      drops['malformed-transport']++;
      return;
    }
    const length = view.getUint16(at + 4);
    const remotePort = view.getUint16(at);
    const localPort = view.getUint16(at + 2);
    if (length < UDP_HEADER_LENGTH || length > packet.payloadLength || remotePort === 0 || localPort === 0) {
      drops['malformed-transport']++;
      return;
    }
    // RFC 768: zero means none; RFC 8200 §8.1: not in IPv6.
    const hasChecksum = view.getUint16(at + 6) !== 0;
    if (hasChecksum ? !isChecksumValid(pseudoSum(packet) + length + sumBytes(view, at, length)) : packet.family === 6) {
      drops['bad-checksum']++;
      return;
    }
    const data = packet.buffer.subarray(at + UDP_HEADER_LENGTH, at + length);
    const { s0, s1, s2, s3, d0, d1, d2, d3 } = packet;
    const flow =
      this.#flows.size > 0 ? this.#flows.find(d0, d1, d2, d3, localPort, s0, s1, s2, s3, remotePort) : undefined;
    if (flow !== undefined) {
      flow.touch();
      flow.dontFragment = packet.dontFragment;
      flow.handler.onMessage(data, flow);
      return;
    }
    const local = { address: new IpAddress(d0, d1, d2, d3), port: localPort };
    const remote = { address: new IpAddress(s0, s1, s2, s3), port: remotePort };
    const socket = this.#host.isLocal(packet) ? this.#socketFor(local) : undefined;
    if (socket !== undefined) socket.options.onMessage(data, remote, local);
    else if (this.onRequest !== undefined) this.onRequest(this.#request(packet, data, local, remote));
    else {
      drops['no-listener']++;
      if (this.#host.isLocal(packet)) this.#refuse(packet, local, remote, 'port-unreachable');
    }
  }

  /** An ICMP error quotes a datagram from `local`. */
  onUnreachable(local: Endpoint, remote: Endpoint, reason: UnreachableReason): void {
    this.#socketFor(local)?.options.onUnreachable?.(remote, reason);
  }

  /** Whether a datagram whose first packet has this length was sent of late. */
  hasSent(local: Endpoint, remote: Endpoint, packetLength: number): boolean {
    return this.#large.has(local, remote, packetLength);
  }

  /** Writes one datagram, in fragments if it must be. */
  send(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number, data: Uint8Array): boolean {
    if (data.length > (local.family === 4 ? MAX_PAYLOAD_V4 : MAX_PAYLOAD_V6)) {
      throw new RangeError(`data: ${data.length} bytes do not fit a datagram`);
    }
    const host = this.#host;
    const { writer } = host;
    const headerLength = ipHeaderLength(local.family);
    const length = UDP_HEADER_LENGTH + data.length;
    const mtu = host.pathMtu(remote);
    host.pending();
    const isWhole = headerLength + length <= mtu;
    const firstLength = isWhole ? headerLength + length : firstFragmentLength(local.family, mtu);
    this.#large.add(local, localPort, remote, remotePort, firstLength);
    if (!isWhole) {
      const payload = new Uint8Array(length);
      payload.set(data, UDP_HEADER_LENGTH);
      writeUdpHeader(viewOf(payload), 0, local, localPort, remote, remotePort, length);
      if (sendFragments(writer, local, remote, PROTOCOL_UDP, payload, mtu, host.random32())) return true;
      host.drops['output-full']++;
      return false;
    }
    const at = writer.begin(headerLength + length);
    if (at < 0) {
      host.drops['output-full']++;
      return false;
    }
    writeIpHeader(writer.view, at, local, remote, PROTOCOL_UDP, length);
    writer.buffer.set(data, at + headerLength + UDP_HEADER_LENGTH);
    writeUdpHeader(writer.view, at + headerLength, local, localPort, remote, remotePort, length);
    writer.end(at, headerLength + length);
    return true;
  }

  #request(packet: IpPacket, data: Uint8Array, local: Endpoint, remote: Endpoint): UdpRequest {
    const source = this.#host.sourceKey(remote.address);
    const request: UdpRequest = {
      local,
      remote,
      source,
      quote: () => packet.buffer.slice(packet.start, packet.start + Math.min(packet.length, QUOTE_LENGTH)),
      accept: (handler, idleMs = 120_000) => this.#open(request, handler, idleMs, data, packet.dontFragment),
      reject: (reason) => this.#refuse(packet, local, remote, reason),
    };
    return request;
  }

  #open(
    request: UdpRequest,
    handler: UdpFlowHandler,
    idleMs: number,
    data: Uint8Array,
    dontFragment: boolean,
  ): UdpFlow | undefined {
    const { limits, drops, now, timers } = this.#host;
    if (this.#flows.size >= limits.maxUdpFlows) {
      drops['limit-connections']++;
      return undefined;
    }
    if (this.#sources.count(request.source) >= limits.maxUdpFlowsPerSource) {
      drops['limit-source']++;
      return undefined;
    }
    const flow = new UdpFlow(this, request, handler, idleMs, now);
    flow.dontFragment = dontFragment;
    this.#flows.add(flow);
    this.#sources.add(flow.source);
    timers.update(flow);
    handler.onMessage(data, flow);
    return flow;
  }

  #refuse(packet: IpPacket, local: Endpoint, remote: Endpoint, reason: UnreachableReason): void {
    const about = packet.buffer.subarray(packet.start, packet.start + packet.length);
    this.#host.sendUnreachable(about, local.address, remote.address, reason);
  }

  #socketFor(local: Endpoint): UdpSocket | undefined {
    const list = this.#sockets.get(local.port);
    if (list === undefined) return undefined;
    return (
      list.find(({ address }) => address !== undefined && address.equals(local.address)) ??
      list.find(({ address }) => address === undefined)
    );
  }

  #freePort(): number {
    const span = 65_536 - FIRST_EPHEMERAL_PORT;
    const first = (this.#host.random32() >>> 0) % span;
    for (let i = 0; i < span; i++) {
      const port = FIRST_EPHEMERAL_PORT + ((first + i) % span);
      if (!this.#sockets.has(port)) return port;
    }
    return 0;
  }
}

interface Path {
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
}

/** The headers of a whole datagram of `length` bytes that came from the remote end, as far as those who sent it look at them. */
function quoteOf({ local, remote, localPort, remotePort }: Path, length: number): Uint8Array {
  const headerLength = ipHeaderLength(local.family);
  const about = new Uint8Array(headerLength + UDP_HEADER_LENGTH);
  const view = viewOf(about);
  writeIpHeader(view, 0, remote, local, PROTOCOL_UDP, UDP_HEADER_LENGTH + length);
  view.setUint32(headerLength, (remotePort << 16) | localPort);
  view.setUint16(headerLength + 4, UDP_HEADER_LENGTH + length);
  return about;
}

/** Writes the header in front of data that is in place already, checksum included. */
function writeUdpHeader(
  view: DataView,
  at: number,
  local: IpAddress,
  localPort: number,
  remote: IpAddress,
  remotePort: number,
  length: number,
): void {
  view.setUint32(at, (localPort << 16) | remotePort);
  view.setUint32(at + 4, length << 16);
  const checksum = checksumOf(addressSum(local, remote, PROTOCOL_UDP) + length + sumBytes(view, at, length));
  view.setUint16(at + 6, checksum === 0 ? 0xffff : checksum);
}

function pseudoSum(packet: IpPacket): number {
  const { s0, s1, s2, s3, d0, d1, d2, d3 } = packet;
  return pseudoHeaderSum(s0, s1, s2, s3, d0, d1, d2, d3, PROTOCOL_UDP);
}
