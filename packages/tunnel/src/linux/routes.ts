/** Asks the system which way a datagram would go (rtnetlink(7), RTM_GETROUTE). */
import { addressOf, closeDescriptor, foreign, type ForeignFunction } from './foreign.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2004000;
const NETLINK_ROUTE = 0;
const NLM_F_REQUEST = 1;
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const RTA = { destination: 1, source: 2, outputInterface: 4, mark: 16 } as const;
const AF_INET = 2;
const AF_INET6 = 10;
/** struct nlmsghdr and struct rtmsg. */
const HEADER = 16;
const BODY = 12;
const ROOM = 4_096;

export class Routes {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(ROOM));
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #address = addressOf(this.#bytes);
  readonly #send: ForeignFunction = foreign('long send(int, uintptr_t, size_t, int)');
  readonly #receive: ForeignFunction = foreign('long recv(int, uintptr_t, size_t, int)');

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Undefined where the system gives no such socket. */
  static open(): Routes | undefined {
    const fd = foreign('int socket(int, int, int)')(AF_NETLINK, SOCK_RAW_CLOEXEC_NONBLOCK, NETLINK_ROUTE);
    return fd < 0 ? undefined : new Routes(fd);
  }

  /** The index of the interface by which a datagram from `source` to `destination` leaves; undefined when it cannot. */
  interfaceTo(destination: Uint8Array, source: Uint8Array, mark: number): number | undefined {
    const { length } = this.#write(destination, source, mark);
    if (this.#send(this.#fd, this.#address, length, 0) !== length) return undefined;
    const received = this.#receive(this.#fd, this.#address, ROOM, 0);
    if (received < HEADER + BODY || this.#view.getUint16(4, true) !== RTM_NEWROUTE) return undefined;
    const end = Math.min(received, this.#view.getUint32(0, true));
    for (let at = HEADER + BODY; at + 4 <= end;) {
      const size = this.#view.getUint16(at, true);
      if (size < 4) return undefined;
      if (this.#view.getUint16(at + 2, true) === RTA.outputInterface) return this.#view.getUint32(at + 4, true);
      at += (size + 3) & ~3;
    }
    return undefined;
  }

  close(): void {
    closeDescriptor(this.#fd);
  }

  #write(destination: Uint8Array, source: Uint8Array, mark: number): { readonly length: number } {
    const bytes = this.#bytes;
    const view = this.#view;
    bytes.fill(0, 0, 128);
    view.setUint16(4, RTM_GETROUTE, true);
    view.setUint16(6, NLM_F_REQUEST, true);
    view.setUint8(HEADER, destination.length === 4 ? AF_INET : AF_INET6);
    view.setUint8(HEADER + 1, destination.length * 8);
    view.setUint8(HEADER + 2, source.length * 8);
    let at = HEADER + BODY;
    const attribute = (type: number, value: Uint8Array): void => {
      view.setUint16(at, 4 + value.length, true);
      view.setUint16(at + 2, type, true);
      bytes.set(value, at + 4);
      at += 4 + value.length;
    };
    attribute(RTA.destination, destination);
    attribute(RTA.source, source);
    if (mark !== 0) attribute(RTA.mark, new Uint8Array(Uint32Array.of(mark).buffer));
    view.setUint32(0, at, true);
    return { length: at };
  }
}
