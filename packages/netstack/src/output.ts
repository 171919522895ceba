/** The stack's pen: packets written in place into the sink. */
import type { PacketSink } from './sink.ts';

export class PacketWriter {
  readonly #sink: PacketSink;
  buffer: Uint8Array;
  view: DataView;
  packets = 0;
  bytes = 0;

  constructor(sink: PacketSink) {
    this.#sink = sink;
    this.buffer = sink.buffer;
    this.view = viewOf(this.buffer);
  }

  /** The offset to write at, or -1 when the sink is full; `buffer` and `view` are then those to write into. */
  begin(maxLength: number): number {
    const offset = this.#sink.reserve(maxLength);
    const { buffer } = this.#sink;
    if (buffer !== this.buffer) {
      this.buffer = buffer;
      this.view = viewOf(buffer);
    }
    return offset;
  }

  end(offset: number, length: number): void {
    this.packets++;
    this.bytes += length;
    this.#sink.commit(offset, length);
  }
}

export function viewOf(buffer: Uint8Array): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
