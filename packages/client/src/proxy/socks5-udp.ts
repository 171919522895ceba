/** UDP ASSOCIATE (RFC 1928 section 7): datagrams of one client, for as long as its connection stands. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';
import {
  formatAddress,
  parseAddress,
  type DatagramSocket,
  type NetworkStack,
  type RemoteAddress,
  type SocketAddress,
  type StreamSocket,
} from '@sealane/tunnel';
import type { ProxyContext } from './context.ts';

/** RFC 1928 §5. */
export const ADDRESS_TYPE = { v4: 1, name: 3, v6: 4 } as const;
const FIXED_LENGTH = 4;
/** Names that wait for an answer, and those remembered, of one association. */
const MAX_NAMES = 64;

/** Associations of a context, so that one listener's clients cannot take all sockets. */
const counts = new WeakMap<ProxyContext, number>();

/**
 * Opens a relay for the client; resolves to where it listens. `announced` is where the client says it will send from;
 * zeros when it does not know. Rejects when there are too many, or no socket can be had.
 */
export async function associate(
  client: StreamSocket,
  context: ProxyContext,
  announced: { readonly host: string; readonly port: number },
): Promise<SocketAddress> {
  const count = counts.get(context) ?? 0;
  if (count >= context.limits.maxFlows) throw new Error('too many associations');
  counts.set(context, count + 1);
  const clientAddress = client.remoteAddress ?? '127.0.0.1';
  const near = createSocket(clientAddress.includes(':') && !clientAddress.startsWith('::ffff:') ? 'udp6' : 'udp4');
  const association = new Association(near, context.network, plain(clientAddress), announced.port);
  client.once('close', () => {
    counts.set(context, (counts.get(context) ?? 1) - 1);
    association.close();
  });
  // The connection carries nothing more; its end is the end of the association.
  client.resume();
  client.once('end', () => client.destroy());
  near.bind(0, plain(client.localAddress ?? '127.0.0.1'));
  await once(near, 'listening');
  return near.address();
}

class Association {
  readonly #near: DatagramSocket;
  readonly #network: NetworkStack;
  readonly #clientAddress: string;
  #clientPort: number;
  readonly #far = new Map<4 | 6, DatagramSocket>();
  readonly #names = new Map<string, Promise<string | undefined>>();
  #isClosed = false;

  constructor(near: DatagramSocket, network: NetworkStack, clientAddress: string, clientPort: number) {
    this.#near = near;
    this.#network = network;
    this.#clientAddress = clientAddress;
    this.#clientPort = clientPort;
    near.on('error', () => undefined);
    near.on('message', (message: Uint8Array, from: RemoteAddress) => this.#fromClient(message, from));
  }

  close(): void {
    this.#isClosed = true;
    this.#near.close();
    for (const socket of this.#far.values()) socket.close();
    this.#far.clear();
  }

  #fromClient(message: Uint8Array, from: RemoteAddress): void {
    // Only the client itself, and the port it speaks from first.
    if (plain(from.address) !== this.#clientAddress) return;
    if (this.#clientPort !== 0 && from.port !== this.#clientPort) return;
    const datagram = parseDatagram(message);
    if (datagram === undefined) return;
    this.#clientPort = from.port;
    const { host, port, data } = datagram;
    if (isIP(host) !== 0) {
      this.#send(host, port, data);
      return;
    }
    void this.#sendToName(host, port, data);
  }

  async #sendToName(name: string, port: number, data: Uint8Array): Promise<void> {
    const address = await this.#lookup(name);
    if (address !== undefined) this.#send(address, port, data);
  }

  #lookup(name: string): Promise<string | undefined> {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    if (this.#names.size >= MAX_NAMES) this.#names.delete(this.#names.keys().next().value!);
    const looking = this.#network.resolve(name).then(
      ([first]) => first,
      () => {
        this.#names.delete(name);
        return undefined;
      },
    );
    this.#names.set(name, looking);
    return looking;
  }

  #send(host: string, port: number, data: Uint8Array): void {
    if (this.#isClosed) return;
    this.#socketFor(host.includes(':') ? 6 : 4)?.send(data, port, host, () => undefined);
  }

  #socketFor(family: 4 | 6): DatagramSocket | undefined {
    let socket = this.#far.get(family);
    if (socket !== undefined) return socket;
    try {
      socket = this.#network.createSocket(family === 4 ? 'udp4' : 'udp6');
    } catch {
      return undefined;
    }
    socket.on('error', () => undefined);
    socket.on('message', (message: Uint8Array, from: RemoteAddress) => {
      const datagram = formatDatagram(message, from);
      if (datagram !== undefined && !this.#isClosed) {
        this.#near.send(datagram, this.#clientPort, this.#clientAddress, () => undefined);
      }
    });
    this.#far.set(family, socket);
    return socket;
  }
}

interface Datagram {
  readonly host: string;
  readonly port: number;
  readonly data: Uint8Array;
}

/** Undefined for what is malformed and for fragments, which we may drop (RFC 1928 §7). */
function parseDatagram(bytes: Uint8Array): Datagram | undefined {
  if (bytes.length < FIXED_LENGTH + 1 || bytes[2] !== 0) return undefined;
  const isName = bytes[3] === ADDRESS_TYPE.name;
  const start = isName ? FIXED_LENGTH + 1 : FIXED_LENGTH;
  const length = isName
    ? bytes[FIXED_LENGTH]!
    : bytes[3] === ADDRESS_TYPE.v4
      ? 4
      : bytes[3] === ADDRESS_TYPE.v6
        ? 16
        : 0;
  const end = start + length;
  if (length === 0 || bytes.length < end + 2) return undefined;
  const address = bytes.subarray(start, end);
  const port = (bytes[end]! << 8) | bytes[end + 1]!;
  if (port === 0) return undefined;
  const host = isName ? new TextDecoder().decode(address) : formatAddress(address);
  return { host, port, data: bytes.subarray(end + 2) };
}

function formatDatagram(data: Uint8Array, from: RemoteAddress): Uint8Array | undefined {
  const address = parseAddress(plain(from.address));
  if (address === undefined) return undefined;
  const bytes = new Uint8Array(FIXED_LENGTH + address.length + 2 + data.length);
  bytes[3] = address.length === 4 ? ADDRESS_TYPE.v4 : ADDRESS_TYPE.v6;
  bytes.set(address, FIXED_LENGTH);
  const end = FIXED_LENGTH + address.length;
  bytes[end] = from.port >> 8;
  bytes[end + 1] = from.port & 0xff;
  bytes.set(data, end + 2);
  return bytes;
}

/** An address without the IPv4-mapped notation and without a zone. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
}
