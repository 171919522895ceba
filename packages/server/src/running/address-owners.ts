import type { RegistryPeer } from '../state/registry-file.ts';

/** Which peer an address in the tunnel belongs to. */
export class AddressOwners {
  #owners: ReadonlyMap<string, string> = new Map();

  constructor(peers: readonly RegistryPeer[]) {
    this.adopt(peers);
  }

  /** The peer's public key; undefined for an address of nobody. */
  ownerOf(address: string): string | undefined {
    return this.#owners.get(address);
  }

  adopt(peers: readonly RegistryPeer[]): void {
    this.#owners = new Map(
      peers.flatMap(({ addresses, publicKey }) => addresses.map((address) => [address, publicKey] as const)),
    );
  }
}
