/**
 * The latest large datagrams sent. An ICMP error about one of them may speak for its path; about any other it may not, as
 * anyone can guess ports (RFC 5927 §4, RFC 8201 §7).
 */
import type { Endpoint, IpAddress } from './address.ts';
import { IPV6_MINIMUM_MTU } from './ip.ts';
import { IPV4_MINIMUM_MTU } from './path-mtu.ts';

const KEPT = 64;

interface Datagram {
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  /** Of the first packet. */
  readonly packetLength: number;
}

export class LargeDatagrams {
  readonly #datagrams: Datagram[] = [];
  #next = 0;

  /** Takes note of a datagram whose first packet has `packetLength` bytes; what fits every path is of no interest. */
  add(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number, packetLength: number): void {
    if (packetLength <= (local.family === 4 ? IPV4_MINIMUM_MTU : IPV6_MINIMUM_MTU)) return;
    this.#datagrams[this.#next] = { local, localPort, remote, remotePort, packetLength };
    this.#next = (this.#next + 1) % KEPT;
  }

  has(local: Endpoint, remote: Endpoint, packetLength: number): boolean {
    return this.#datagrams.some(
      (sent) =>
        sent.packetLength === packetLength &&
        sent.localPort === local.port &&
        sent.remotePort === remote.port &&
        sent.remote.equals(remote.address) &&
        sent.local.equals(local.address),
    );
  }
}
