import { formatKey, wipe } from '@sealane/protocol';
import { type Log, type Tunnel } from '@sealane/tunnel';
import type { StateFolder } from '../state/folder.ts';
import { readRegistry, type Registry } from '../state/registry-file.ts';
import type { AddressOwners } from './address-owners.ts';
import { peerChanges } from './changes.ts';

/** Makes a tunnel serve the peers of the registry, and follow it when it changes. */
export class Roster {
  readonly #folder: StateFolder;
  readonly #tunnel: Tunnel;
  readonly #owners: AddressOwners;
  readonly #log: Log;
  #registry: Registry;
  #names: ReadonlyMap<string, string>;
  #turn: Promise<unknown> = Promise.resolve();

  /** `registry` is what the tunnel serves and `owners` knows already. */
  constructor(folder: StateFolder, tunnel: Tunnel, registry: Registry, owners: AddressOwners, log: Log) {
    this.#folder = folder;
    this.#tunnel = tunnel;
    this.#owners = owners;
    this.#log = log;
    this.#registry = registry;
    this.#names = namesOf(registry);
  }

  /** What people call the peer; its key when it is none of ours. */
  nameOf(publicKey: Uint8Array): string {
    const key = formatKey(publicKey);
    return this.#names.get(key) ?? key;
  }

  /**
   * Reads the registry and applies what is different.
   * Rejects with InputError, and changes nothing, when the file is not valid.
   */
  reload(): Promise<void> {
    const turn = this.#turn.then(() => this.#apply());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #apply(): Promise<void> {
    const next = readRegistry(this.#folder);
    const before = this.#registry;
    const peers = peerChanges(before.peers, next.peers);
    try {
      if (peers.length > 0) await this.#tunnel.configure({ peers });
    } finally {
      wipe(...peers.map(({ presharedKey }) => presharedKey));
    }
    this.#registry = next;
    this.#owners.adopt(next.peers);
    const oldNames = this.#names;
    this.#names = namesOf(next);
    const touched = new Set(peers.map(({ publicKey }) => formatKey(publicKey)));
    for (const [key, peer] of this.#names) {
      if (!oldNames.has(key)) this.#log.entry('peer-added', `peer ${peer} added`, { peer });
      else if (touched.has(key)) this.#log.entry('peer-changed', `peer ${peer} changed`, { peer });
    }
    for (const [key, peer] of oldNames) {
      if (!this.#names.has(key)) this.#log.entry('peer-removed', `peer ${peer} removed`, { peer });
    }
  }
}

function namesOf(registry: Registry): ReadonlyMap<string, string> {
  return new Map(registry.peers.map((peer) => [peer.publicKey, peer.name]));
}
