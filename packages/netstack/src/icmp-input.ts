/** ICMP messages that come in: echo is answered, errors reach the connection or socket that they are about. */
import { type Endpoint, IpAddress } from './address.ts';
import { isChecksumValid, pseudoHeaderSum, sumBytes } from './checksum.ts';
import type { DropCounters } from './drops.ts';
import { type Fragmenting, ICMP_HEADER_LENGTH, icmpKind, isTooBig, sendEcho, unreachableReason } from './icmp.ts';
import { type IpPacket, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, destinationOf, sourceOf } from './ip.ts';
import { NEXT_HEADER_FRAGMENT } from './ipv6.ts';
import type { PacketWriter } from './output.ts';
import type { PathMtu } from './path-mtu.ts';
import type { TcpLayer } from './tcp/layer.ts';
import type { UdpLayer } from './udp.ts';

/** An echo reply to a `ping`. */
export interface EchoReply {
  readonly remote: IpAddress;
  readonly id: number;
  readonly sequence: number;
  /** A view, good only during the call. */
  readonly data: Uint8Array;
}

/** What ICMP needs of the stack. */
export interface IcmpHost {
  readonly writer: PacketWriter;
  readonly drops: DropCounters;
  readonly paths: PathMtu;
  readonly now: number;
  isLocal(packet: IpPacket): boolean;
  fragmenting(destination: IpAddress): Fragmenting;
  pending(): void;
}

export class IcmpInput {
  onEchoReply: ((reply: EchoReply) => void) | undefined = undefined;
  readonly #host: IcmpHost;
  readonly #tcp: TcpLayer;
  readonly #udp: UdpLayer;

  constructor(host: IcmpHost, tcp: TcpLayer, udp: UdpLayer) {
    this.#host = host;
    this.#tcp = tcp;
    this.#udp = udp;
  }

  /** Takes the payload of `packet`. */
  receive(packet: IpPacket): void {
    const { view, payload: at, payloadLength: length, family } = packet;
    const { s0, s1, s2, s3, d0, d1, d2, d3 } = packet;
    const pseudo = family === 4 ? 0 : pseudoHeaderSum(s0, s1, s2, s3, d0, d1, d2, d3, PROTOCOL_ICMPV6) + length;
    if (length < ICMP_HEADER_LENGTH) {
      this.#host.drops['malformed-transport']++;
      return;
    }
    if (!isChecksumValid(pseudo + sumBytes(view, at, length))) {
      this.#host.drops['bad-checksum']++;
      return;
    }
    const type = view.getUint8(at);
    const kind = icmpKind(family, type);
    if (kind === 'error') {
      this.#receiveError(packet, type, view.getUint8(at + 1), view.getUint32(at + 4));
      return;
    }
    const id = view.getUint16(at + 4);
    const sequence = view.getUint16(at + 6);
    const data = packet.buffer.subarray(at + ICMP_HEADER_LENGTH, at + length);
    if (kind === 'echo-request' && this.#host.isLocal(packet)) {
      const remote = sourceOf(packet);
      const fragmenting = this.#host.fragmenting(remote);
      if (!sendEcho(this.#host.writer, destinationOf(packet), remote, false, id, sequence, data, fragmenting)) {
        this.#host.drops['output-full']++;
      }
      this.#host.pending();
    } else if (kind === 'echo-reply' && this.onEchoReply !== undefined) {
      this.onEchoReply({ remote: sourceOf(packet), id, sequence, data });
    } else {
      this.#host.drops['icmp-ignored']++;
    }
  }

  /** RFC 792, RFC 4443 §2.4: an error counts only for a packet of ours that is under way (RFC 5927). */
  #receiveError(packet: IpPacket, type: number, code: number, rest: number): void {
    const quote = parseQuote(packet);
    const tooBig = isTooBig(packet.family, type, code);
    const reason = tooBig ? undefined : unreachableReason(packet.family, type, code);
    if (quote === undefined || (reason === undefined && !tooBig)) {
      this.#host.drops['icmp-ignored']++;
      return;
    }
    const { local, remote } = quote;
    const claimed = packet.family === 4 ? rest & 0xffff : rest;
    if (quote.protocol === PROTOCOL_UDP) {
      // Anyone may guess a datagram's ports: only a socket that exists is told, and claims of path MTU need a datagram to believe.
      if (reason !== undefined) this.#udp.onUnreachable(local, remote, reason);
      else if (this.#udp.hasSent(local, remote, quote.packetLength)) {
        this.#host.paths.lower(remote.address, claimed, quote.packetLength, this.#host.now);
      } else this.#host.drops['icmp-ignored']++;
      return;
    }
    const tcb = this.#tcp.findQuoted(local.address, local.port, remote.address, remote.port, quote.sequence);
    if (tcb === undefined) {
      this.#host.drops['icmp-ignored']++;
    } else if (tooBig) {
      this.#tcp.onPathMtu(tcb, this.#host.paths.lower(remote.address, claimed, quote.packetLength, this.#host.now));
    } else if (reason !== undefined) {
      this.#tcp.onUnreachable(tcb, reason);
    }
  }
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
  let headerLength = isV4 ? (view.getUint8(at) & 15) * 4 : 40;
  if (headerLength < 20 || length < headerLength + 8) return undefined;
  let protocol = view.getUint8(at + (isV4 ? 9 : 6));
  // Only first fragments carry ports.
  if (isV4 && (view.getUint16(at + 6) & 0x1fff) !== 0) return undefined;
  if (!isV4 && protocol === NEXT_HEADER_FRAGMENT) {
    if (length < headerLength + 16 || view.getUint16(at + 42) >>> 3 !== 0) return undefined;
    protocol = view.getUint8(at + headerLength);
    headerLength += 8;
  }
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
