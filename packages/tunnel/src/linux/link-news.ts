/** Tells at once that some link, address or route of this network namespace changed (rtnetlink(7)); what changed is asked for elsewhere. */
import { addressOf, closeDescriptor, errno, errnoOf, foreign } from './foreign.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2004000;
const NETLINK_ROUTE = 0;
/** RTMGRP_*: what there may be news of. */
export const NEWS = { link: 0x1, address4: 0x10, route4: 0x40, address6: 0x100, route6: 0x400 } as const;
const SOCKADDR_NL_BYTES = 12;
const DISCARDED_BYTES = 8192;

/** A descriptor that becomes readable with each change; undefined where the system gives none, and then only polling helps. */
export class LinkNews {
  readonly fd: number;
  readonly #discarded = new Uint8Array(new ArrayBuffer(DISCARDED_BYTES));
  readonly #recv = foreign('long recv(int, uintptr_t, size_t, int)');

  private constructor(fd: number) {
    this.fd = fd;
  }

  static open(groups: number = NEWS.link, protocol: number = NETLINK_ROUTE): LinkNews | undefined {
    const fd = foreign('int socket(int, int, int)')(AF_NETLINK, SOCK_RAW_CLOEXEC_NONBLOCK, protocol);
    if (fd < 0) return undefined;
    const address = new Uint8Array(new ArrayBuffer(SOCKADDR_NL_BYTES));
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, groups, true);
    if (foreign('int bind(int, uintptr_t, int)')(fd, addressOf(address), SOCKADDR_NL_BYTES) === 0) {
      return new LinkNews(fd);
    }
    closeDescriptor(fd);
    return undefined;
  }

  /** Empties the queue, so that the descriptor waits for the next change; true when there was any, be it lost. */
  drain(): boolean {
    let any = false;
    while (this.#recv(this.fd, addressOf(this.#discarded), DISCARDED_BYTES, 0) > 0) any = true;
    return any || errno() === errnoOf('ENOBUFS');
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}
