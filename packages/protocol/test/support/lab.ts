/** Ways to look into a device that its API has no reason to offer. */
import type { Node } from '../../../../test/sim/node.ts';
import { ipPacket } from '../../../../test/sim/packets.ts';
import type { Aead, Crypto } from '../../src/crypto.ts';
import { HEADROOM, PacketBatch } from '../../src/batch.ts';
import { IndexTable } from '../../src/index-table.ts';
import type { Peer } from '../../src/peer.ts';
import { hex } from './bytes.ts';
import * as paper from './paper.ts';

/** Remembers the results of X25519: a run that draws its ephemeral keys from a small pool then costs no curve at all. */
export function memoised(crypto: Crypto): Crypto {
  const publicKeys = new Map<string, Uint8Array>();
  const shared = new Map<string, Uint8Array | undefined>();
  return {
    ...crypto,
    publicKey(privateKey) {
      const key = hex(privateKey);
      let found = publicKeys.get(key);
      if (found === undefined) publicKeys.set(key, (found = crypto.publicKey(privateKey)));
      return found.slice();
    },
    dh(privateKey, publicKey) {
      const key = hex(privateKey) + hex(publicKey);
      if (!shared.has(key)) shared.set(key, crypto.dh(privateKey, publicKey));
      return shared.get(key)?.slice();
    },
  };
}

export interface RecordedKey {
  /** What the device handed over, by reference: the device must wipe it. */
  readonly given: Uint8Array;
  readonly key: string;
  readonly isWiped: () => boolean;
}

export interface Recording {
  readonly crypto: Crypto;
  readonly sealers: RecordedKey[];
  readonly openers: RecordedKey[];
  /** Every array that held a secret on its way, by reference, with what it held. */
  readonly secrets: { readonly kind: 'dh' | 'hmac' | 'private'; readonly array: Uint8Array; readonly value: string }[];
}

/** A crypto that keeps references to all secrets that pass through it. */
export function recording(crypto: Crypto): Recording {
  const sealers: RecordedKey[] = [];
  const openers: RecordedKey[] = [];
  const secrets: Recording['secrets'] = [];
  const note = (kind: 'dh' | 'hmac' | 'private', array: Uint8Array | undefined): void => {
    if (array !== undefined) secrets.push({ kind, array, value: hex(array) });
  };
  const aead = (inner: Aead): Aead => ({
    seal: (key, counter, text, data) => inner.seal(key, counter, text, data),
    open: (key, counter, text, data) => inner.open(key, counter, text, data),
    sealer(key) {
      const sealer = inner.sealer(key);
      // A cipher whose key is all zeros now seals as one that was made with zeros.
      const isWiped = (): boolean => sameSeal(sealer, inner.sealer(new Uint8Array(32)));
      sealers.push({ given: key, key: hex(key), isWiped });
      return sealer;
    },
    opener(key) {
      const opener = inner.opener(key);
      const isWiped = (): boolean => {
        const sample = new Uint8Array(32);
        inner.sealer(new Uint8Array(32)).seal(sample, 0, 16, 9, 9);
        return opener.open(sample, 0, 32, 9, 9);
      };
      openers.push({ given: key, key: hex(key), isWiped });
      return opener;
    },
  });
  const recorded: Crypto = {
    ...crypto,
    publicKey(privateKey) {
      note('private', privateKey);
      return crypto.publicKey(privateKey);
    },
    dh(privateKey, publicKey) {
      note('private', privateKey);
      const shared = crypto.dh(privateKey, publicKey);
      note('dh', shared);
      return shared;
    },
    hmac(key, ...inputs) {
      const output = crypto.hmac(key, ...inputs);
      note('hmac', output);
      return output;
    },
    aead: (suite) => aead(crypto.aead(suite)),
  };
  return { crypto: recorded, sealers, openers, secrets };
}

function sameSeal(a: ReturnType<Aead['sealer']>, b: ReturnType<Aead['sealer']>): boolean {
  const [x, y] = [new Uint8Array(32), new Uint8Array(32)];
  a.seal(x, 0, 16, 9, 9);
  b.seal(y, 0, 16, 9, 9);
  return hex(x) === hex(y);
}

/** The peer object behind the handle that a batch carries; asking for it may use up one counter. */
export function insideOf(node: Node, other: Node): Peer {
  const packet = ipPacket(node.inner, other.inner, 0, 20);
  const batch = new PacketBatch(new Uint8Array(HEADROOM + 20 + 32), 1);
  batch.buffer.set(packet, HEADROOM);
  batch.push(HEADROOM, packet.length);
  node.device.seal(batch, node.now);
  return batch.peers[0] as Peer;
}

/** Runs `make` and returns the index tables that its devices draw from, in the order of their first use. */
export function indexTablesOf(make: () => void): IndexTable<unknown>[] {
  const tables = new Set<IndexTable<unknown>>();
  const insert = Reflect.get(IndexTable.prototype, 'insert') as IndexTable<unknown>['insert'];
  IndexTable.prototype.insert = function (this: IndexTable<unknown>, entry: unknown): number {
    tables.add(this);
    return insert.call(this, entry);
  };
  try {
    make();
  } finally {
    IndexTable.prototype.insert = insert;
  }
  return [...tables];
}

/** Well-formed initiations with a right mac1 and nothing else right about them: what a flood is made of. */
export function junkInitiation(
  receiverPublic: Uint8Array,
  random: { bytes(length: number): Uint8Array },
  cookie?: Uint8Array,
): Uint8Array {
  const body = random.bytes(116);
  body.set([1, 0, 0, 0]);
  return paper.withMacs(body, receiverPublic, cookie);
}
