/** An eventfd that threads ring and one of them polls. */
import { addressOf, closeDescriptor, errno, errnoName, foreign, type ForeignFunction } from './foreign.ts';

const EFD_NONBLOCK_CLOEXEC = 0o2004000;

export class Bell {
  readonly fd: number;
  readonly #write: ForeignFunction = foreign('long write(int, uintptr_t, size_t)');
  readonly #one = new Uint8Array(new BigUint64Array([1n]).buffer);

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** A new one. */
  static open(): Bell {
    const fd = foreign('int eventfd(unsigned int, int)')(0, EFD_NONBLOCK_CLOEXEC);
    if (fd < 0) throw new Error(`no eventfd to be had: ${errnoName(errno())}`);
    return new Bell(fd);
  }

  /** One that another thread opened, and will close. */
  static of(fd: number): Bell {
    return new Bell(fd);
  }

  ring(): void {
    this.#write(this.fd, addressOf(this.#one), 8);
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}
