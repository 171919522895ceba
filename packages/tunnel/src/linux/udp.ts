/**
 * A UDP socket with what node:dgram hides: trains of datagrams in one call (UDP_SEGMENT, UDP_GRO), the local address of each
 * (IP_PKTINFO), the traffic class (ip(7), ipv6(7), udp(7)) and the mark. The structures of sendmsg(2) and recvmsg(2) are laid out once.
 */
import type { Endpoint } from '@sealane/protocol';
import { closeDescriptor, errno, errnoName, errnoOf, foreign, type ForeignFunction } from './foreign.ts';
import { LowPool, type LowSlot } from './low-memory.ts';
import { allowGroup } from './reuseport.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_UDP = 17;
const SOL_IPV6 = 41;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const IP_TOS = 1;
const IP_PKTINFO = 8;
const IP_RECVTOS = 13;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const IPV6_RECVTCLASS = 66;
const IPV6_TCLASS = 67;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

const BUFFER_BYTES = 8 * 2 ** 20;
/** Remembered sources; a flood of spoofed ones costs a new start, never memory. */
const MOST_ENDPOINTS = 4_096;

/** Offsets in the socket's own memory. */
const RECEIVE = 0;
const SEND = 64;
const RECEIVE_VECTOR = 128;
const SEND_VECTOR = 144;
const RECEIVE_NAME = 160;
const SEND_NAME = 192;
const OPTION = 224;
const RECEIVE_CONTROL = 256;
const SEND_CONTROL = 384;
const MEMORY = 512;
const CONTROL_ROOM = 128;
/** Offsets in struct msghdr. */
const MESSAGE = {
  name: 0,
  nameLength: 8,
  vector: 16,
  vectorLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
} as const;

export type Family = 'ipv4' | 'ipv6';

export interface UdpOptions {
  readonly family: Family;
  readonly port: number;
  readonly mark: number;
  /** Binds it as one more of the group that the port's first socket is in. */
  readonly joinsGroup?: boolean;
}

/** An open socket as another thread may use it; whoever opened it closes it, after the other has released it. */
export interface SharedSocket {
  readonly fd: number;
  readonly family: Family;
  readonly port: number;
  readonly canSegment: boolean;
  readonly canJoin: boolean;
}

interface Functions {
  readonly send: ForeignFunction;
  readonly receive: ForeignFunction;
  readonly setOption: ForeignFunction;
}

const pool = new LowPool(MEMORY);

export class LinuxUdp {
  readonly fd: number;
  readonly family: Family;
  readonly port: number;
  /** Whether one call may send a train of datagrams. */
  readonly canSegment: boolean;
  /** Whether the kernel joins the datagrams of a train before they are received. */
  readonly canJoin: boolean;
  /** Of what `receive` took last: bytes of each datagram but the last, traffic class, and who sent it. */
  segment = 0;
  trafficClass = 0;
  endpoint: Endpoint | undefined;

  readonly #call: Functions;
  readonly #slot: LowSlot;
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #words: Uint32Array;
  readonly #base: number;
  readonly #nameLength: number;
  readonly #known = new Map<string, Endpoint>();
  readonly #lastSource = new Uint32Array(13);
  #lastTarget: Endpoint | undefined;

  private constructor(fd: number, slot: LowSlot, options: UdpOptions | SharedSocket) {
    this.fd = fd;
    this.family = options.family;
    this.#slot = slot;
    const { bytes, words, address } = slot;
    this.#memory = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#words = words;
    this.#base = address;
    this.#nameLength = options.family === 'ipv4' ? 16 : 28;
    this.#call = {
      send: foreign('long sendmsg(int, uintptr_t, int)'),
      receive: foreign('long recvmsg(int, uintptr_t, int)'),
      setOption: foreign('int setsockopt(int, int, int, uintptr_t, unsigned int)'),
    };
    if ('fd' in options) {
      this.canSegment = options.canSegment;
      this.canJoin = options.canJoin;
      this.port = options.port;
    } else {
      this.#setOptions();
      this.canSegment = this.#set(SOL_UDP, UDP_SEGMENT, 0);
      this.canJoin = this.#set(SOL_UDP, UDP_GRO, 1);
      if (options.mark !== 0) this.setMark(options.mark);
      if (options.joinsGroup === true) allowGroup(fd);
      this.port = this.#bind(options.port);
    }
    this.#layOut();
  }

  /** A bound socket; undefined when this host does not have the family. Throws an Error with errno in its cause. */
  static open(options: UdpOptions): LinuxUdp | undefined {
    const family = options.family === 'ipv4' ? AF_INET : AF_INET6;
    const fd = foreign('int socket(int, int, int)')(family, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
    if (fd < 0) {
      const fault = systemFault(errno());
      if (fault.code === 'EAFNOSUPPORT') return undefined;
      throw new Error(`no UDP socket to be had: ${fault.code}`, { cause: fault });
    }
    const slot = pool.take();
    try {
      return new LinuxUdp(fd, slot, options);
    } catch (error) {
      closeDescriptor(fd);
      pool.give(slot);
      if (error instanceof BindError && error.fault.code === 'EADDRNOTAVAIL') return undefined;
      throw error;
    }
  }

  /** A socket that another thread opened. */
  static share(socket: SharedSocket): LinuxUdp {
    return new LinuxUdp(socket.fd, pool.take(), socket);
  }

  /** Marks what is sent from now on. Throws when the system does not permit it. */
  setMark(mark: number): void {
    if (this.#set(SOL_SOCKET, SO_MARK, mark)) return;
    const fault = systemFault(errno());
    throw new Error('marking datagrams (fwmark) is not permitted: it needs root or CAP_NET_ADMIN', { cause: fault });
  }

  /**
   * Receives into `room` bytes at an address, and sets `segment`, `trafficClass` and `endpoint`.
   * Returns the number of bytes, or the error number negated.
   */
  receive(address: number, room: number): number {
    const words = this.#words;
    setAddress(words, RECEIVE_VECTOR, address);
    words[(RECEIVE_VECTOR + 8) >> 2] = room;
    words[(RECEIVE + MESSAGE.nameLength) >> 2] = this.#nameLength;
    words[(RECEIVE + MESSAGE.controlLength) >> 2] = CONTROL_ROOM;
    const length = this.#call.receive(this.fd, this.#base + RECEIVE, 0);
    if (length < 0) return -errno();
    this.segment = length;
    this.trafficClass = 0;
    const info = this.#readControl();
    this.#readSource(info);
    return length;
  }

  /**
   * Sends `length` bytes at an address as datagrams of `segment` bytes each (the last may be shorter).
   * Returns 0 or the error number.
   */
  send(endpoint: Endpoint, address: number, length: number, segment: number, trafficClass: number): number {
    const words = this.#words;
    if (endpoint !== this.#lastTarget) this.#setTarget(endpoint);
    setAddress(words, SEND_VECTOR, address);
    words[(SEND_VECTOR + 8) >> 2] = length;
    const v4 = this.family === 'ipv4';
    let at = SEND_CONTROL;
    if (length > segment) {
      at = this.#beginControl(at, 2, SOL_UDP, UDP_SEGMENT);
      words[(at - 8) >> 2] = segment;
    }
    if (trafficClass !== 0) {
      at = this.#beginControl(at, 4, v4 ? SOL_IP : SOL_IPV6, v4 ? IP_TOS : IPV6_TCLASS);
      words[(at - 8) >> 2] = trafficClass;
    }
    if (endpoint.source !== undefined) at = this.#pinSource(at, endpoint.source);
    words[(SEND + MESSAGE.controlLength) >> 2] = at - SEND_CONTROL;
    return this.#call.send(this.fd, this.#base + SEND, 0) < 0 ? errno() : 0;
  }

  close(): void {
    closeDescriptor(this.fd);
    pool.give(this.#slot);
  }

  /** The end of using another thread's socket. */
  release(): void {
    pool.give(this.#slot);
  }

  #setOptions(): void {
    const v4 = this.family === 'ipv4';
    if (!v4) this.#set(SOL_IPV6, IPV6_V6ONLY, 1);
    if (!this.#set(SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)) this.#set(SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
    if (!this.#set(SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)) this.#set(SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
    this.#set(v4 ? SOL_IP : SOL_IPV6, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
    this.#set(v4 ? SOL_IP : SOL_IPV6, v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
  }

  #set(level: number, option: number, value: number): boolean {
    this.#view.setUint32(OPTION, value, true);
    return this.#call.setOption(this.fd, level, option, this.#base + OPTION, 4) === 0;
  }

  #bind(port: number): number {
    const view = this.#view;
    const memory = this.#memory;
    memory.fill(0, SEND_NAME, SEND_NAME + 32);
    view.setUint16(SEND_NAME, this.family === 'ipv4' ? AF_INET : AF_INET6, true);
    view.setUint16(SEND_NAME + 2, port);
    const name = this.#base + SEND_NAME;
    if (foreign('int bind(int, uintptr_t, unsigned int)')(this.fd, name, this.#nameLength) !== 0) {
      throw new BindError(port, this.family, systemFault(errno()));
    }
    view.setUint32(OPTION, 28, true);
    foreign('int getsockname(int, uintptr_t, uintptr_t)')(this.fd, name, this.#base + OPTION);
    return view.getUint16(SEND_NAME + 2);
  }

  #layOut(): void {
    const view = this.#view;
    const words = this.#words;
    const base = this.#base;
    const messages = [
      [RECEIVE, RECEIVE_NAME, RECEIVE_VECTOR, RECEIVE_CONTROL],
      [SEND, SEND_NAME, SEND_VECTOR, SEND_CONTROL],
    ] as const;
    for (const [message, name, vector, control] of messages) {
      setAddress(words, message + MESSAGE.name, base + name);
      view.setUint32(message + MESSAGE.nameLength, this.#nameLength, true);
      setAddress(words, message + MESSAGE.vector, base + vector);
      view.setUint32(message + MESSAGE.vectorLength, 1, true);
      setAddress(words, message + MESSAGE.control, base + control);
    }
    view.setUint16(SEND_NAME, this.family === 'ipv4' ? AF_INET : AF_INET6, true);
  }

  #setTarget(endpoint: Endpoint): void {
    const view = this.#view;
    view.setUint16(SEND_NAME + 2, endpoint.port);
    if (this.family === 'ipv4') {
      this.#memory.set(endpoint.address, SEND_NAME + 4);
    } else {
      this.#memory.set(endpoint.address, SEND_NAME + 8);
      view.setUint32(SEND_NAME + 24, endpoint.scopeId, true);
    }
    this.#lastTarget = endpoint;
  }

  /** Writes the head of a control message of at most 8 bytes; returns where the next one begins. */
  #beginControl(at: number, length: number, level: number, type: number): number {
    const words = this.#words;
    const word = at >> 2;
    words[word] = 16 + length;
    words[word + 1] = 0;
    words[word + 2] = level;
    words[word + 3] = type;
    return at + 24;
  }

  /** Only an address that is unique to its interface also pins that: routes may change. */
  #pinSource(at: number, source: NonNullable<Endpoint['source']>): number {
    const view = this.#view;
    const memory = this.#memory;
    if (this.family === 'ipv4') {
      this.#beginControl(at, 12, SOL_IP, IP_PKTINFO);
      view.setUint32(at + 16, 0, true);
      memory.set(source.address, at + 20);
      view.setUint32(at + 24, 0, true);
      return at + 32;
    }
    this.#beginControl(at, 20, SOL_IPV6, IPV6_PKTINFO);
    memory.set(source.address, at + 16);
    view.setUint32(at + 32, isLinkLocal(source.address) ? source.interfaceIndex : 0, true);
    return at + 40;
  }

  /** Returns where the packet info lies, or 0. */
  #readControl(): number {
    const words = this.#words;
    const end = RECEIVE_CONTROL + words[(RECEIVE + MESSAGE.controlLength) >> 2]!;
    let info = 0;
    for (let at = RECEIVE_CONTROL; at + 16 <= end;) {
      const length = words[at >> 2]!;
      if (length < 16) break;
      const level = words[(at + 8) >> 2]!;
      const type = words[(at + 12) >> 2]!;
      if (level === SOL_UDP && type === UDP_GRO) {
        this.segment = words[(at + 16) >> 2]!;
      } else if (level === SOL_IP) {
        if (type === IP_TOS) this.trafficClass = this.#memory[at + 16]!;
        else if (type === IP_PKTINFO) info = at + 16;
      } else if (level === SOL_IPV6) {
        if (type === IPV6_TCLASS) this.trafficClass = words[(at + 16) >> 2]! & 0xff;
        else if (type === IPV6_PKTINFO) info = at + 16;
      }
      at += (length + 7) & ~7;
    }
    return info;
  }

  /** The same source and local address give the same object, so that the core sees by reference that nothing moved. */
  #readSource(info: number): void {
    const words = this.#words;
    const last = this.#lastSource;
    const nameWords = this.family === 'ipv4' ? 2 : 7;
    const infoWords = info === 0 ? 0 : this.family === 'ipv4' ? 2 : 5;
    let same = this.endpoint !== undefined;
    for (let i = 0; i < nameWords; i++) {
      const word = words[(RECEIVE_NAME >> 2) + i]!;
      if (last[i] !== word) same = false;
      last[i] = word;
    }
    for (let i = 0; i < infoWords; i++) {
      const word = words[(info >> 2) + i]!;
      if (last[7 + i] !== word) same = false;
      last[7 + i] = word;
    }
    if (same) return;
    const key = last.join();
    let endpoint = this.#known.get(key);
    if (endpoint === undefined) {
      if (this.#known.size >= MOST_ENDPOINTS) this.#known.clear();
      endpoint = this.#parseSource(info);
      this.#known.set(key, endpoint);
    }
    this.endpoint = endpoint;
  }

  #parseSource(info: number): Endpoint {
    const view = this.#view;
    const memory = this.#memory;
    const port = view.getUint16(RECEIVE_NAME + 2);
    if (this.family === 'ipv4') {
      const address = memory.slice(RECEIVE_NAME + 4, RECEIVE_NAME + 8);
      if (info === 0) return { address, port, scopeId: 0 };
      const source = { address: memory.slice(info + 4, info + 8), interfaceIndex: view.getUint32(info, true) };
      return { address, port, scopeId: 0, source };
    }
    const address = memory.slice(RECEIVE_NAME + 8, RECEIVE_NAME + 24);
    const scopeId = view.getUint32(RECEIVE_NAME + 24, true);
    if (info === 0) return { address, port, scopeId };
    const source = { address: memory.slice(info, info + 16), interfaceIndex: view.getUint32(info + 16, true) };
    return { address, port, scopeId, source };
  }
}

/** The port cannot be had. */
class BindError extends Error {
  readonly fault: SystemFault;

  constructor(port: number, family: Family, fault: SystemFault) {
    const where = `UDP port ${port} (${family === 'ipv4' ? 'IPv4' : 'IPv6'})`;
    const why =
      fault.code === 'EADDRINUSE'
        ? 'is in use: choose another listen port or stop the program that has it'
        : fault.code === 'EACCES'
          ? 'needs privileges: choose a listen port above 1023'
          : `cannot be opened: ${fault.code}`;
    super(`${where} ${why}`, { cause: fault });
    this.fault = fault;
  }
}

/** An error of the system as Node itself reports them. */
export interface SystemFault extends Error {
  readonly code: string;
  readonly errno: number;
}

export function systemFault(number: number): SystemFault {
  const code = errnoName(number);
  return Object.assign(new Error(code), { code, errno: -number });
}

/** The numbers of the errors that a packet loop meets. */
export function errorNumbers<const T extends string>(...names: readonly T[]): Readonly<Record<T, number>> {
  return Object.fromEntries(names.map((name) => [name, errnoOf(name)])) as Record<T, number>;
}

function isLinkLocal(address: Uint8Array): boolean {
  return address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
}

function setAddress(words: Uint32Array, offset: number, address: number): void {
  words[offset >> 2] = address >>> 0;
  words[(offset >> 2) + 1] = Math.floor(address / 2 ** 32);
}
