/** Where the Linux lane's datagrams leave: both sockets, their port and mark, and what to do when the system refuses to send. */
import { VERDICT, withoutSource, type Endpoint, type PacketBatch, type PeerHandle } from '@sealane/protocol';
import { addressOf, foreign, type ForeignFunction } from '../linux/foreign.ts';
import type { Routes } from '../linux/routes.ts';
import { errorNumbers, LinuxUdp, type SharedSocket } from '../linux/udp.ts';
import type { Faults } from './faults.ts';
import { allSockets, closeSockets, openSockets, type LaneSockets, type Sockets } from './sockets.ts';

/** UDP_MAX_SEGMENTS of the older kernels, and the largest payload of one datagram. */
const MOST_SEGMENTS = 64;
const LARGEST_PAYLOAD = 65_507;
/** Milliseconds to wait for room in the socket's buffer before a datagram is given up. */
const LONGEST_BLOCK = 20;
const POLLOUT = 4;
const MOST_TARGETS = 4_096;

export interface OutletChange {
  readonly port?: number;
  readonly mark?: number;
}

/** The lanes that have sockets of the same port: they are given them, and give them back before `handOver` returns. */
export interface SocketGroup {
  readonly lanes: number;
  readonly handOver: (sockets: readonly LaneSockets[] | undefined) => void;
}

const ALONE: SocketGroup = { lanes: 1, handOver: () => {} };

export interface OutletOptions {
  /** The address of the packets' memory. */
  readonly base: number;
  readonly faults: Faults;
  /** Gets what is found out later. */
  readonly notes: string[];
  readonly forgetSource: (peer: PeerHandle) => void;
  readonly group?: SocketGroup;
}

export class Outlet {
  readonly #base: number;
  readonly #group: SocketGroup;
  readonly #faults: Faults;
  readonly #notes: string[];
  readonly #forgetSource: (peer: PeerHandle) => void;
  #sockets: Sockets | undefined;
  #up = false;
  #wantedPort = 0;
  #mark = 0;
  #problem: Error | undefined;
  readonly #targets = new Set<string>();
  #known = new WeakSet<Endpoint>();
  /** Where a route refused trains of datagrams. */
  #single = new WeakSet<Endpoint>();
  #saidSingle = false;
  readonly #errors = errorNumbers('EAGAIN');
  /** How a route refuses trains, and what another source would not help against. */
  readonly #trainErrors = new Set(Object.values(errorNumbers('EIO', 'EINVAL', 'EMSGSIZE', 'EOPNOTSUPP')));
  readonly #sourcelessErrors = new Set(Object.values(errorNumbers('EAGAIN', 'EMSGSIZE', 'ENOBUFS')));
  readonly #entry: DataView = new DataView(new ArrayBuffer(8));
  readonly #entryAt: number = addressOf(new Uint8Array(this.#entry.buffer));
  readonly #poll: ForeignFunction = foreign('int poll(uintptr_t, unsigned long, int)');

  constructor({ base, faults, notes, forgetSource, group = ALONE }: OutletOptions) {
    this.#base = base;
    this.#group = group;
    this.#faults = faults;
    this.#notes = notes;
    this.#forgetSource = forgetSource;
  }

  /** The port in use, or the one to use when sockets open; 0 when the system is to choose. */
  get wantedPort(): number {
    return this.#wantedPort;
  }

  /** 0 while no socket is open. */
  get port(): number {
    return this.#sockets?.port ?? 0;
  }

  get mark(): number {
    return this.#mark;
  }

  /** The mark that borrowed sockets have. */
  set mark(mark: number) {
    this.#mark = mark;
  }

  get udp4(): LinuxUdp | undefined {
    return this.#sockets?.udp4;
  }

  get udp6(): LinuxUdp | undefined {
    return this.#sockets?.udp6;
  }

  /** Why no socket is open although the link is up. */
  get problem(): Error | undefined {
    return this.#problem;
  }

  /** What this system lacks, as far as sockets show it. */
  notes(): readonly string[] {
    const sockets = this.#sockets;
    if (sockets === undefined)
      return this.#problem === undefined ? [] : [`No socket is open: ${this.#problem.message}.`];
    const any = sockets.udp4 ?? sockets.udp6;
    return [
      ...(sockets.udp4 === undefined ? ['This host has no IPv4: peers are reached over IPv6 only.'] : []),
      ...(sockets.udp6 === undefined ? ['This host has no IPv6: peers are reached over IPv4 only.'] : []),
      ...(any?.canSegment === false ? ['This kernel sends datagrams one by one (no UDP_SEGMENT).'] : []),
      ...(any?.canJoin === false ? ['This kernel hands over datagrams one by one (no UDP_GRO).'] : []),
    ];
  }

  /** Does what may fail of a change; the caller then applies or abandons it. */
  prepare(change: OutletChange): { readonly apply: () => void; readonly abandon: () => void } {
    const mark = change.mark ?? this.#mark;
    const unbound = this.#up && this.#sockets === undefined;
    const { port } = change;
    const rebind = port !== undefined && (port === 0 || port !== this.#wantedPort || unbound);
    const fresh = rebind && this.#up ? openSockets(port, mark, this.#group.lanes) : undefined;
    const kept = fresh === undefined ? this.#sockets : undefined;
    const remark = mark !== this.#mark;
    if (remark) for (const socket of allSockets(kept)) socket.setMark(mark);
    return {
      apply: () => {
        this.#mark = mark;
        if (rebind) this.#wantedPort = fresh?.port ?? port;
        if (fresh !== undefined) this.#adopt(fresh);
      },
      abandon: () => {
        closeSockets(fresh);
        if (remark) for (const socket of allSockets(kept)) socket.setMark(this.#mark);
      },
    };
  }

  /** A downed interface is silent: its sockets are closed. */
  setUp(up: boolean): void {
    this.#up = up;
    this.#problem = undefined;
    if (!up) {
      this.close();
      return;
    }
    try {
      this.#adopt(openSockets(this.#wantedPort, this.#mark, this.#group.lanes));
    } catch (error) {
      this.#problem = error instanceof Error ? error : new Error(String(error));
    }
  }

  close(): void {
    if (this.#sockets === undefined) return;
    this.#group.handOver(undefined);
    closeSockets(this.#sockets);
    this.#sockets = undefined;
  }

  /** Uses sockets that another lane opened and will close; without any, gives those in use back. */
  borrow(shared: LaneSockets | undefined): void {
    for (const socket of allSockets(this.#sockets)) socket.release();
    const use = (socket: SharedSocket | undefined): LinuxUdp | undefined =>
      socket === undefined ? undefined : LinuxUdp.share(socket);
    this.#single = new WeakSet();
    this.#sockets =
      shared === undefined
        ? undefined
        : { port: shared.port, udp4: use(shared.udp4), udp6: use(shared.udp6), others: [] };
  }

  /** Call when routes changed: a source stays pinned only while the way out is by the interface that it was spoken to on. */
  checkSources(routes: Routes, peers: Iterable<PeerHandle>): void {
    for (const peer of peers) {
      const { endpoint } = peer;
      const source = endpoint?.source;
      if (endpoint === undefined || source === undefined) continue;
      const way = routes.interfaceTo(endpoint.address, source.address, this.#mark);
      if (way !== source.interfaceIndex) this.#forgetSource(peer);
    }
  }

  /** True when a datagram went to this address (4 or 16 bytes) and port. */
  wasSentTo(address: Uint8Array, port: number): boolean {
    return this.#targets.has(targetKey(address, port));
  }

  /**
   * Sends the longest row of datagrams from `first` on that one call may take: one peer, one size (the last may be shorter),
   * without gaps, with one ECN field. Returns the index behind it.
   */
  sendRow(batch: PacketBatch, first: number, ecn: Uint8Array): number {
    const { offsets, lengths, verdicts, peers } = batch;
    const peer = peers[first];
    const endpoint = peer?.endpoint;
    if (endpoint === undefined) return first + 1;
    const segment = lengths[first]!;
    const start = offsets[first]!;
    let end = first + 1;
    let total = segment;
    const most = Math.min(batch.count, first + MOST_SEGMENTS);
    while (
      end < most &&
      verdicts[end] === VERDICT.send &&
      peers[end] === peer &&
      offsets[end] === start + total &&
      lengths[end]! <= segment &&
      ecn[end] === ecn[first] &&
      total + lengths[end]! <= LARGEST_PAYLOAD
    ) {
      total += lengths[end]!;
      if (lengths[end++]! < segment) break;
    }
    this.#transmit(endpoint, peer, start, total, segment, ecn[first]!);
    return end;
  }

  sendOne(
    endpoint: Endpoint,
    peer: PeerHandle | undefined,
    offset: number,
    length: number,
    trafficClass: number,
  ): void {
    this.#transmit(endpoint, peer, offset, length, length, trafficClass);
  }

  #transmit(
    endpoint: Endpoint,
    peer: PeerHandle | undefined,
    offset: number,
    length: number,
    segment: number,
    trafficClass: number,
  ): void {
    const sockets = this.#sockets;
    const socket = endpoint.address.length === 4 ? sockets?.udp4 : sockets?.udp6;
    if (socket === undefined) {
      this.#faults.add(sockets === undefined ? 'no-socket' : 'send-failed EAFNOSUPPORT');
      return;
    }
    if (!this.#known.has(endpoint)) this.#remember(endpoint);
    if (length > segment && (!socket.canSegment || this.#single.has(endpoint))) {
      this.#transmitSingly(endpoint, peer, offset, length, segment, trafficClass);
      return;
    }
    let code = this.#trySend(socket, endpoint, offset, length, segment, trafficClass);
    if (code !== 0 && length > segment && this.#trainErrors.has(code)) {
      // A route that refuses everything says nothing of trains, nor does one that does so no longer.
      code = this.#trySend(socket, endpoint, offset, segment, segment, trafficClass);
      if (code === 0) {
        this.#transmitRest(socket, endpoint, peer, offset + segment, length - segment, segment, trafficClass);
        return;
      }
    }
    if (code === 0) return;
    if (endpoint.source !== undefined && !this.#sourcelessErrors.has(code)) {
      // The address that the peer spoke to may be gone: let the system choose, at once.
      if (peer !== undefined) this.#forgetSource(peer);
      this.#transmit(withoutSource(endpoint), peer, offset, length, segment, trafficClass);
      return;
    }
    this.#faults.add('send-failed', code, Math.ceil(length / segment));
  }

  /** Of a train that was refused although its first datagram was not: only where the rest is refused too, trains are. */
  #transmitRest(
    socket: LinuxUdp,
    endpoint: Endpoint,
    peer: PeerHandle | undefined,
    offset: number,
    length: number,
    segment: number,
    trafficClass: number,
  ): void {
    if (length > segment) {
      const code = this.#trySend(socket, endpoint, offset, length, segment, trafficClass);
      if (code === 0) return;
      if (this.#trainErrors.has(code)) this.#keepSingle(endpoint);
    }
    this.#transmitSingly(endpoint, peer, offset, length, segment, trafficClass);
  }

  #transmitSingly(
    endpoint: Endpoint,
    peer: PeerHandle | undefined,
    offset: number,
    length: number,
    segment: number,
    trafficClass: number,
  ): void {
    for (let at = 0; at < length; at += segment) {
      const size = Math.min(segment, length - at);
      this.#transmit(endpoint, peer, offset + at, size, size, trafficClass);
    }
  }

  #keepSingle(endpoint: Endpoint): void {
    this.#single.add(endpoint);
    if (!this.#saidSingle) this.#notes.push('A route refuses trains of datagrams: they are sent one by one there.');
    this.#saidSingle = true;
  }

  /** One call; a full socket buffer gets a moment to drain. */
  #trySend(
    socket: LinuxUdp,
    endpoint: Endpoint,
    offset: number,
    length: number,
    segment: number,
    trafficClass: number,
  ): number {
    const address = this.#base + offset;
    const code = socket.send(endpoint, address, length, segment, trafficClass);
    if (code !== this.#errors.EAGAIN) return code;
    this.#entry.setInt32(0, socket.fd, true);
    this.#entry.setUint32(4, POLLOUT, true);
    this.#poll(this.#entryAt, 1, LONGEST_BLOCK);
    return socket.send(endpoint, address, length, segment, trafficClass);
  }

  #remember(endpoint: Endpoint): void {
    if (this.#targets.size >= MOST_TARGETS) {
      this.#targets.clear();
      this.#known = new WeakSet();
    }
    this.#targets.add(targetKey(endpoint.address, endpoint.port));
    this.#known.add(endpoint);
  }

  #adopt(sockets: Sockets): void {
    this.#group.handOver(sockets.others.map(describe));
    closeSockets(this.#sockets);
    this.#sockets = sockets;
    this.#wantedPort = sockets.port;
    this.#problem = undefined;
    this.#single = new WeakSet();
  }
}

function targetKey(address: Uint8Array, port: number): string {
  return `${address.join('.')} ${port}`;
}

function describe({ port, udp4, udp6 }: Omit<Sockets, 'others'>): LaneSockets {
  const share = (socket: LinuxUdp | undefined): SharedSocket | undefined =>
    socket === undefined
      ? undefined
      : {
          fd: socket.fd,
          family: socket.family,
          port: socket.port,
          canSegment: socket.canSegment,
          canJoin: socket.canJoin,
        };
  return { port, udp4: share(udp4), udp6: share(udp6) };
}
