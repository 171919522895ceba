/** A datagram socket of the kind that the service manager has (sd_notify(3)); node makes none. */
import { addressOf, closeDescriptor, foreign } from '../../src/linux/foreign.ts';

export class NotifySocket implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string) {
    this.path = path;
    this.#fd = foreign('int socket(int, int, int)')(1, 2 | 0o2004000, 0);
    const name = new TextEncoder().encode(path);
    const address = new Uint8Array(new ArrayBuffer(2 + name.length + 1));
    address[0] = 1;
    address.set(name, 2);
    if (foreign('int bind(int, uintptr_t, unsigned int)')(this.#fd, addressOf(address), address.length) !== 0) {
      throw new Error(`cannot bind ${path}`);
    }
  }

  /** The next message, or nothing when none waits. */
  receive(): string {
    const bytes = new Uint8Array(new ArrayBuffer(256));
    const length = foreign('long recv(int, uintptr_t, size_t, int)')(this.#fd, addressOf(bytes), bytes.length, 0);
    return new TextDecoder().decode(bytes.subarray(0, Math.max(0, length)));
  }

  [Symbol.dispose](): void {
    closeDescriptor(this.#fd);
  }
}
