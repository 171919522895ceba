/** Which peer an address of the tunnel's network lies behind, by the longest of the allowed IPs. */
import type { IpAddress } from '@sealane/netstack';
import type { PeerStatus } from '@sealane/protocol';
import { toIpAddress } from '../devices/netstack.ts';

interface Route {
  readonly network: IpAddress;
  /** Of the 128 bits that every address has here. */
  readonly bits: number;
  readonly publicKey: Uint8Array;
}

export class Routes {
  /** The longest first. */
  #routes: readonly Route[] = [];

  adopt(peers: readonly PeerStatus[]): void {
    this.#routes = peers
      .flatMap(({ allowedIps, publicKey }) =>
        allowedIps.map(({ address, length }) => {
          const network = toIpAddress(address);
          return { network, bits: network.family === 4 ? length + 96 : length, publicKey };
        }),
      )
      .toSorted((one, other) => other.bits - one.bits);
  }

  includes(address: IpAddress): boolean {
    return this.peerFor(address) !== undefined;
  }

  /** The public key of the peer that packets to the address go to. */
  peerFor(address: IpAddress): Uint8Array | undefined {
    const routes = this.#routes;
    for (let i = 0; i < routes.length; i++) if (holds(routes[i]!, address)) return routes[i]!.publicKey;
    return undefined;
  }
}

function holds({ network, bits }: Route, address: IpAddress): boolean {
  return (
    network.family === address.family &&
    agree(network.a, address.a, bits) &&
    agree(network.b, address.b, bits - 32) &&
    agree(network.c, address.c, bits - 64) &&
    agree(network.d, address.d, bits - 96)
  );
}

/** Whether the first `bits` of two words are the same; shifts by 32 would be none. */
function agree(one: number, other: number, bits: number): boolean {
  if (bits <= 0) return true;
  return (one ^ other) >>> (32 - Math.min(bits, 32)) === 0;
}
