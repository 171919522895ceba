/**
 * Joins packets of one flow into one write, as the kernel's own receive offload (GRO) would: TCP segments that follow each other with the
 * same headers, UDP datagrams of one size. A packet that breaks a flow's row sends what was held of that flow first, so that
 * order within a flow is kept. Payloads stay where they lie: a write gathers them.
 */
import { FLAG, IPV4, IPV6, PROTOCOL, TCP, UDP } from './headers.ts';
import { fold, sum, swapped, writeChecksum, type PacketMemory } from './memory.ts';
import { GSO, NEEDS_CHECKSUM, VNET } from './vnet.ts';

/** Bytes of the largest IP packet. */
const LARGEST = 65_535;
const MOST_SEGMENTS = 64;
const FLOWS = 16;
const DONT_FRAGMENT = 0x4000;
/** Everything of the word at TCP's data offset (little endian) but PSH. */
const FLAG_WORD_WITHOUT_PSH = ~(FLAG.psh << 8);

/** Pieces to write as one: the first begins with the virtio header, VNET.length bytes before the first packet. */
export interface Gathered {
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly count: number;
}

class Flow implements Gathered {
  readonly offsets: Uint32Array = new Uint32Array(MOST_SEGMENTS);
  readonly lengths: Uint32Array = new Uint32Array(MOST_SEGMENTS);
  count = 0;
  /** Offset of the first packet; its headers stand for all. */
  packet = 0;
  isTcp = false;
  isIpv4 = false;
  ipHeader = 0;
  headers = 0;
  /** Payload bytes of every packet but the last. */
  segment = 0;
  total = 0;
  nextSequence = 0;
  id = 0;
  /** The second packet repeated the first one's id: so must all. */
  fixedId = false;
}

export class Merger {
  readonly #memory: PacketMemory;
  readonly #write: (pieces: Gathered) => void;
  readonly #udp: boolean;
  readonly #flows: Flow[] = Array.from({ length: FLOWS }, () => new Flow());
  /** The first of `#flows` that hold something. */
  #active = 0;

  /** `write` must use its argument at once. `udp`: whether the receiver takes merged UDP. */
  constructor(memory: PacketMemory, options: { readonly udp: boolean }, write: (pieces: Gathered) => void) {
    this.#memory = memory;
    this.#udp = options.udp;
    this.#write = write;
  }

  /**
   * Takes an IP packet of exactly `length` bytes. It and VNET.length bytes before it must stay as they are until `flush`;
   * the latter are overwritten.
   */
  add(packet: number, length: number): void {
    const { bytes, view } = this.#memory;
    if ((packet & 3) !== 0) return this.#behindAll(packet, length);
    const isIpv4 = bytes[packet]! >>> 4 === 4;
    let protocol: number;
    let ipHeader: number;
    if (isIpv4) {
      // Options or a fragment.
      if (bytes[packet] !== 0x45 || (view.getUint16(packet + IPV4.fragment) & 0x3fff) !== 0) {
        return this.#behindAll(packet, length);
      }
      protocol = bytes[packet + IPV4.protocol]!;
      ipHeader = IPV4.length;
    } else {
      if (length < IPV6.length) return this.#alone(packet, length);
      protocol = bytes[packet + IPV6.nextHeader]!;
      ipHeader = IPV6.length;
    }
    if (protocol === PROTOCOL.tcp) return this.#addTcp(packet, length, isIpv4, ipHeader);
    if (protocol === PROTOCOL.udp && this.#udp) return this.#addUdp(packet, length, isIpv4, ipHeader);
    return this.#behindAll(packet, length);
  }

  /** Writes everything that is held. */
  flush(): void {
    for (let i = 0; i < this.#active; i++) this.#finish(this.#flows[i]!);
    this.#active = 0;
  }

  #addTcp(packet: number, length: number, isIpv4: boolean, ipHeader: number): void {
    const { bytes, view } = this.#memory;
    const tcp = packet + ipHeader;
    if (length < ipHeader + TCP.options) return this.#alone(packet, length);
    const headers = ipHeader + (bytes[tcp + TCP.dataOffset]! >>> 4) * 4;
    if (headers < ipHeader + TCP.options || headers > length) return this.#alone(packet, length);
    const index = this.#find(packet, isIpv4, ipHeader, true);
    const payload = length - headers;
    const flags = bytes[tcp + TCP.flags]!;
    const isPlain = payload > 0 && (flags & ~FLAG.psh) === FLAG.ack;
    const mergeable = isPlain && this.#isIntact(packet, length, isIpv4, ipHeader, PROTOCOL.tcp);
    const sequence = view.getUint32(tcp + TCP.sequence);
    if (index >= 0) {
      const flow = this.#flows[index]!;
      if (
        mergeable &&
        sequence === flow.nextSequence &&
        headers === flow.headers &&
        this.#follows(flow, packet, payload) &&
        this.#sameTcpHeader(flow, tcp)
      ) {
        this.#append(flow, packet, payload);
        flow.nextSequence = (sequence + payload) >>> 0;
        if ((flags & FLAG.psh) !== 0) bytes[flow.packet + ipHeader + TCP.flags]! |= FLAG.psh;
        if ((flags & FLAG.psh) !== 0 || payload < flow.segment) this.#release(index);
        return;
      }
      this.#release(index);
    }
    if (!mergeable || (flags & FLAG.psh) !== 0) return this.#alone(packet, length);
    const flow = this.#begin(packet, payload, isIpv4, ipHeader, headers, true);
    flow.nextSequence = (sequence + payload) >>> 0;
  }

  #addUdp(packet: number, length: number, isIpv4: boolean, ipHeader: number): void {
    const { bytes, view } = this.#memory;
    const udp = packet + ipHeader;
    const headers = ipHeader + UDP.length;
    if (length < headers) return this.#alone(packet, length);
    const index = this.#find(packet, isIpv4, ipHeader, false);
    const payload = length - headers;
    const mergeable =
      payload > 0 &&
      view.getUint16(udp + UDP.payloadLength) === length - ipHeader &&
      (bytes[udp + UDP.checksum] !== 0 || bytes[udp + UDP.checksum + 1] !== 0) &&
      this.#isIntact(packet, length, isIpv4, ipHeader, PROTOCOL.udp);
    if (index >= 0) {
      const flow = this.#flows[index]!;
      if (mergeable && this.#follows(flow, packet, payload)) {
        this.#append(flow, packet, payload);
        if (payload < flow.segment) this.#release(index);
        return;
      }
      this.#release(index);
    }
    if (!mergeable) return this.#alone(packet, length);
    this.#begin(packet, payload, isIpv4, ipHeader, headers, false);
  }

  /** The flow with the same addresses and ports, or -1. */
  #find(packet: number, isIpv4: boolean, ipHeader: number, isTcp: boolean): number {
    const { words } = this.#memory;
    const ports = (packet + ipHeader) >> 2;
    const from = (packet + (isIpv4 ? IPV4.addresses : IPV6.addresses)) >> 2;
    const count = isIpv4 ? 2 : 8;
    next: for (let i = 0; i < this.#active; i++) {
      const flow = this.#flows[i]!;
      if (flow.isTcp !== isTcp || flow.isIpv4 !== isIpv4) continue;
      if (words[(flow.packet + ipHeader) >> 2] !== words[ports]) continue;
      const own = (flow.packet + (isIpv4 ? IPV4.addresses : IPV6.addresses)) >> 2;
      for (let k = 0; k < count; k++) if (words[own + k] !== words[from + k]) continue next;
      return i;
    }
    return -1;
  }

  #isIntact(packet: number, length: number, isIpv4: boolean, ipHeader: number, protocol: number): boolean {
    const memory = this.#memory;
    if (isIpv4 && fold(sum(memory, packet, ipHeader)) !== 0) return false;
    // Without options the addresses lie right before the transport header: one sum takes both.
    const addresses = isIpv4 ? IPV4.addresses : IPV6.addresses;
    const total = sum(memory, packet + addresses, length - addresses);
    return fold(total + (protocol << 8) + swapped(length - ipHeader)) === 0;
  }

  /** Whether the packet's IP header and size let it come behind the flow's last. */
  #follows(flow: Flow, packet: number, payload: number): boolean {
    const { bytes, view, words } = this.#memory;
    if (payload > flow.segment || flow.count === MOST_SEGMENTS || flow.total + payload > LARGEST) return false;
    if (!flow.isIpv4) {
      return (
        words[packet >> 2] === words[flow.packet >> 2] &&
        bytes[packet + IPV6.hopLimit] === bytes[flow.packet + IPV6.hopLimit]
      );
    }
    if (bytes[packet + IPV4.tos] !== bytes[flow.packet + IPV4.tos]) return false;
    if (bytes[packet + IPV4.ttl] !== bytes[flow.packet + IPV4.ttl]) return false;
    const fragment = view.getUint16(packet + IPV4.fragment);
    if (fragment !== view.getUint16(flow.packet + IPV4.fragment)) return false;
    const id = view.getUint16(packet + IPV4.id);
    // Ids count up; with DF they mean nothing and may also stand still (RFC 6864).
    if (!flow.fixedId && id === ((flow.id + flow.count) & 0xffff)) return true;
    if ((fragment & DONT_FRAGMENT) === 0 || id !== flow.id) return false;
    if (flow.count > 1 && !flow.fixedId) return false;
    flow.fixedId = true;
    return true;
  }

  /** Acknowledgement, window, flags but PSH, and options. */
  #sameTcpHeader(flow: Flow, tcp: number): boolean {
    const { words } = this.#memory;
    const first = flow.packet + flow.ipHeader;
    if (words[(tcp + TCP.acknowledgement) >> 2] !== words[(first + TCP.acknowledgement) >> 2]) return false;
    const difference = words[(tcp + TCP.dataOffset) >> 2]! ^ words[(first + TCP.dataOffset) >> 2]!;
    if ((difference & FLAG_WORD_WITHOUT_PSH) !== 0) return false;
    const end = (tcp + flow.headers - flow.ipHeader) >> 2;
    const shift = (first - tcp) >> 2;
    for (let i = (tcp + TCP.options) >> 2; i < end; i++) if (words[i] !== words[i + shift]) return false;
    return true;
  }

  #append(flow: Flow, packet: number, payload: number): void {
    flow.offsets[flow.count] = packet + flow.headers;
    flow.lengths[flow.count] = payload;
    flow.count += 1;
    flow.total += payload;
  }

  #begin(packet: number, payload: number, isIpv4: boolean, ipHeader: number, headers: number, isTcp: boolean): Flow {
    if (this.#active === FLOWS) this.#release(0);
    const flow = this.#flows[this.#active++]!;
    flow.packet = packet;
    flow.isTcp = isTcp;
    flow.isIpv4 = isIpv4;
    flow.ipHeader = ipHeader;
    flow.headers = headers;
    flow.segment = payload;
    flow.total = headers + payload;
    flow.offsets[0] = packet - VNET.length;
    flow.lengths[0] = VNET.length + flow.total;
    flow.count = 1;
    flow.id = isIpv4 ? this.#memory.view.getUint16(packet + IPV4.id) : 0;
    flow.fixedId = false;
    return flow;
  }

  /** Writes a flow and takes it off the active ones, keeping the order of the others. */
  #release(index: number): void {
    const flow = this.#flows[index]!;
    this.#finish(flow);
    this.#active -= 1;
    this.#flows.copyWithin(index, index + 1, this.#active + 1);
    this.#flows[this.#active] = flow;
  }

  #finish(flow: Flow): void {
    const memory = this.#memory;
    const { bytes, view } = memory;
    const { packet, ipHeader, isIpv4, isTcp, total } = flow;
    const header = packet - VNET.length;
    if (flow.count === 1) {
      clearHeader(bytes, header);
    } else {
      const field = isTcp ? TCP.checksum : UDP.checksum;
      bytes[header + VNET.flags] = NEEDS_CHECKSUM;
      bytes[header + VNET.gsoType] = isTcp ? (isIpv4 ? GSO.tcp4 : GSO.tcp6) : GSO.udp;
      view.setUint16(header + VNET.headerLength, flow.headers, true);
      view.setUint16(header + VNET.gsoSize, flow.segment, true);
      view.setUint16(header + VNET.checksumStart, ipHeader, true);
      view.setUint16(header + VNET.checksumOffset, field, true);
      const size = total - ipHeader;
      let pseudo = ((isTcp ? PROTOCOL.tcp : PROTOCOL.udp) << 8) + swapped(size);
      if (isIpv4) {
        view.setUint16(packet + IPV4.totalLength, total);
        view.setUint16(packet + IPV4.checksum, 0);
        writeChecksum(bytes, packet + IPV4.checksum, sum(memory, packet, ipHeader));
        pseudo += sum(memory, packet + IPV4.addresses, 8);
      } else {
        view.setUint16(packet + IPV6.payloadLength, size);
        pseudo += sum(memory, packet + IPV6.addresses, 32);
      }
      if (!isTcp) view.setUint16(packet + ipHeader + UDP.payloadLength, size);
      const folded = fold(pseudo);
      bytes[packet + ipHeader + field] = folded & 0xff;
      bytes[packet + ipHeader + field + 1] = folded >> 8;
    }
    this.#write(flow);
    flow.count = 0;
  }

  /** A packet whose flow is not looked for: what is held may be of the same one and goes first. */
  #behindAll(packet: number, length: number): void {
    this.flush();
    this.#alone(packet, length);
  }

  readonly #single = { offsets: new Uint32Array(1), lengths: new Uint32Array(1), count: 1 };

  #alone(packet: number, length: number): void {
    const { bytes } = this.#memory;
    clearHeader(bytes, packet - VNET.length);
    this.#single.offsets[0] = packet - VNET.length;
    this.#single.lengths[0] = VNET.length + length;
    this.#write(this.#single);
  }
}

function clearHeader(bytes: Uint8Array, header: number): void {
  for (let i = 0; i < VNET.length; i++) bytes[header + i] = 0;
}
