/** Text with secrets in it, built and read as bytes: strings cannot be wiped. */

const HEX = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0));
const NEWLINE = 10;

/** Lines of ASCII in one growing buffer; outgrown buffers are wiped. */
export class LineWriter {
  #buffer = new Uint8Array(4_096);
  #length = 0;

  /** Appends one line of ASCII text. */
  line(text: string): void {
    this.#reserve(text.length + 1);
    for (let i = 0; i < text.length; i++) this.#buffer[this.#length++] = text.charCodeAt(i);
    this.#buffer[this.#length++] = NEWLINE;
  }

  /** Appends `key=` and the bytes in hexadecimal. */
  hexLine(key: string, bytes: Uint8Array): void {
    this.#reserve(key.length + 2 + bytes.length * 2);
    for (let i = 0; i < key.length; i++) this.#buffer[this.#length++] = key.charCodeAt(i);
    this.#buffer[this.#length++] = 0x3d;
    for (const byte of bytes) {
      this.#buffer[this.#length++] = HEX[byte >> 4]!;
      this.#buffer[this.#length++] = HEX[byte & 15]!;
    }
    this.#buffer[this.#length++] = NEWLINE;
  }

  /** What was written, owned (and wiped) by the caller from now on. */
  take(): Uint8Array {
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#buffer = new Uint8Array(0);
    this.#length = 0;
    return bytes;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer.fill(0);
    this.#buffer = grown;
  }
}

/** A line did not end within the bound. */
export class LineTooLongError extends Error {
  override readonly name = 'LineTooLongError';
}

/** Cuts a byte stream into lines, however it arrives. Everything that passed through is wiped. */
export class LineSplitter {
  readonly #maximum: number;
  #rest = new Uint8Array(0);

  constructor(maximumLine: number) {
    this.#maximum = maximumLine;
  }

  /**
   * Yields each whole line without its newline, valid until the next is asked for. Takes ownership of the chunk.
   * Throws a LineTooLongError for a line beyond the bound.
   */
  *push(chunk: Uint8Array): Generator<Uint8Array, void, void> {
    const bytes = this.#join(chunk);
    let start = 0;
    try {
      for (;;) {
        const end = bytes.indexOf(NEWLINE, start);
        if ((end < 0 ? bytes.length : end) - start > this.#maximum) throw new LineTooLongError('line too long');
        if (end < 0) break;
        yield bytes.subarray(start, end);
        start = end + 1;
      }
      // A copy even of a Buffer, whose own slice is a view.
      this.#rest = Uint8Array.from(bytes.subarray(start));
    } finally {
      bytes.fill(0);
    }
  }

  /** True when the stream may end here: no line has begun. */
  get isEmpty(): boolean {
    return this.#rest.length === 0;
  }

  wipe(): void {
    this.#rest.fill(0);
    this.#rest = new Uint8Array(0);
  }

  #join(chunk: Uint8Array): Uint8Array {
    if (this.#rest.length === 0) return chunk;
    const joined = new Uint8Array(this.#rest.length + chunk.length);
    joined.set(this.#rest);
    joined.set(chunk, this.#rest.length);
    this.wipe();
    chunk.fill(0);
    return joined;
  }
}

/** Reads exactly 64 hexadecimal digits as a 32-byte key, or undefined. */
export function parseHexKey(digits: Uint8Array): Uint8Array | undefined {
  if (digits.length !== 64) return undefined;
  const key = new Uint8Array(32);
  for (let i = 0; i < 32; i++) {
    const high = hexValue(digits[2 * i]!);
    const low = hexValue(digits[2 * i + 1]!);
    if (high < 0 || low < 0) {
      key.fill(0);
      return undefined;
    }
    key[i] = (high << 4) | low;
  }
  return key;
}

/** Bytes as text, one character a byte: for lines that are no secret. */
export function asciiText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

export function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'latin1'));
}

function hexValue(digit: number): number {
  if (digit >= 0x30 && digit <= 0x39) return digit - 0x30;
  const letter = digit | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
