import type { Endpoint } from './endpoint.ts';

/** What the data path tells a lane of a peer: compare by identity, read the endpoint at the moment of sending. */
export interface PeerHandle {
  readonly publicKey: Uint8Array;
  readonly endpoint: Endpoint | undefined;
}

/** Free bytes that must lie before an outbound IP packet: the transport header is written there. */
export const HEADROOM = 16;
/** Free bytes that must lie behind it: up to 15 bytes of padding and the 16-byte tag. */
export const TAILROOM = 32;

/**
 * Packets in one buffer, sealed and opened where they lie. Entry `i` is the `lengths[i]` bytes at `offsets[i]`;
 * `Device.seal` and `Device.open` rewrite both and set `verdicts[i]` and `peers[i]`.
 * Inbound entries carry the datagram's source in `endpoints[i]`.
 * A lane allocates its batches once and reuses them; a batch of one is the simple case.
 */
export class PacketBatch {
  readonly buffer: Uint8Array;
  readonly view: DataView;
  readonly capacity: number;
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly verdicts: Uint8Array;
  readonly peers: (PeerHandle | undefined)[];
  readonly endpoints: (Endpoint | undefined)[];
  count = 0;

  constructor(buffer: Uint8Array, capacity: number) {
    this.buffer = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.capacity = capacity;
    this.offsets = new Uint32Array(capacity);
    this.lengths = new Uint32Array(capacity);
    this.verdicts = new Uint8Array(capacity);
    this.peers = Array.from({ length: capacity }, () => undefined);
    this.endpoints = Array.from({ length: capacity }, () => undefined);
  }

  /** Appends a packet that lies in the buffer already. The caller keeps within capacity and bounds. */
  push(offset: number, length: number, endpoint?: Endpoint): void {
    const i = this.count++;
    this.offsets[i] = offset;
    this.lengths[i] = length;
    this.verdicts[i] = 0;
    this.peers[i] = undefined;
    this.endpoints[i] = endpoint;
  }

  clear(): void {
    this.count = 0;
  }
}
