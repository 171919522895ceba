/**
 * Crypto routing (paper section 2): which peer owns an address, by longest matching prefix. Two path-compressed binary
 * tries, one a family; a lookup walks at most one node for every distinct prefix length on its path and allocates nothing.
 */
import type { AllowedIpUpdate, Prefix } from './model.ts';

/** A prefix (owner set) or a fork between prefixes (owner undefined). Keys are big-endian words; IPv4 uses the first. */
class Node<T> {
  parent: Node<T> | undefined;
  zero: Node<T> | undefined;
  one: Node<T> | undefined;
  owner: T | undefined;

  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
  readonly length: number;
  readonly family: 4 | 6;

  constructor(family: 4 | 6, key: Key, length: number) {
    this.family = family;
    this.w0 = maskWord(key.w0, length);
    this.w1 = maskWord(key.w1, length - 32);
    this.w2 = maskWord(key.w2, length - 64);
    this.w3 = maskWord(key.w3, length - 96);
    this.length = length;
  }
}

interface Key {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

export class AllowedIps<T extends object> {
  #root4: Node<T> | undefined;
  #root6: Node<T> | undefined;
  readonly #owned = new Map<T, Set<Node<T>>>();

  get isEmpty(): boolean {
    return this.#root4 === undefined && this.#root6 === undefined;
  }

  /** Gives the prefix to `owner`, taking it from whoever had it. Bits behind the prefix length are ignored. */
  insert(prefix: Prefix, owner: T): void {
    const key = keyOf(prefix);
    const family = prefix.address.length === 4 ? 4 : 6;
    let parent: Node<T> | undefined;
    let node = family === 4 ? this.#root4 : this.#root6;
    while (node !== undefined && node.length <= prefix.length) {
      if (commonBits(node, key.w0, key.w1, key.w2, key.w3) < node.length) break;
      if (node.length === prefix.length) {
        this.#own(node, owner);
        return;
      }
      parent = node;
      node = bitOf(key, node.length) === 0 ? node.zero : node.one;
    }
    const added = new Node<T>(family, key, prefix.length);
    if (node === undefined) {
      this.#attach(parent, added);
    } else {
      const common = Math.min(commonBits(node, added.w0, added.w1, added.w2, added.w3), prefix.length);
      if (common === prefix.length) {
        this.#attach(parent, added);
        this.#attach(added, node);
      } else {
        const fork = new Node<T>(family, key, common);
        this.#attach(parent, fork);
        this.#attach(fork, added);
        this.#attach(fork, node);
      }
    }
    this.#own(added, owner);
  }

  /** Takes the prefix from `owner`; nothing happens unless it owns exactly this prefix. */
  remove(prefix: Prefix, owner: T): void {
    const key = keyOf(prefix);
    let node = prefix.address.length === 4 ? this.#root4 : this.#root6;
    while (node !== undefined && node.length < prefix.length) {
      node = bitOf(key, node.length) === 0 ? node.zero : node.one;
    }
    if (node === undefined || node.length !== prefix.length || node.owner !== owner) return;
    if (commonBits(node, key.w0, key.w1, key.w2, key.w3) < prefix.length) return;
    this.#owned.get(owner)?.delete(node);
    this.#disown(node);
  }

  removeOwner(owner: T): void {
    for (const node of this.#owned.get(owner) ?? []) this.#disown(node);
    this.#owned.delete(owner);
  }

  /** The owner's prefixes in the order they were given. */
  prefixesOf(owner: T): Prefix[] {
    return Array.from(this.#owned.get(owner) ?? [], prefixOf);
  }

  /** The owner of the longest prefix that holds the IPv4 address at `offset`. */
  lookup4(view: DataView, offset: number): T | undefined {
    return search(this.#root4, view.getUint32(offset), 0, 0, 0);
  }

  /** The owner of the longest prefix that holds the IPv6 address at `offset`. */
  lookup6(view: DataView, offset: number): T | undefined {
    return search(
      this.#root6,
      view.getUint32(offset),
      view.getUint32(offset + 4),
      view.getUint32(offset + 8),
      view.getUint32(offset + 12),
    );
  }

  #own(node: Node<T>, owner: T): void {
    if (node.owner !== undefined) this.#owned.get(node.owner)?.delete(node);
    node.owner = owner;
    let nodes = this.#owned.get(owner);
    if (nodes === undefined) this.#owned.set(owner, (nodes = new Set()));
    nodes.add(node);
  }

  /** Leaves no node behind that is neither a prefix nor a fork. */
  #disown(node: Node<T>): void {
    node.owner = undefined;
    let current: Node<T> | undefined = node;
    while (current !== undefined && current.owner === undefined) {
      if (current.zero !== undefined && current.one !== undefined) return;
      const child: Node<T> | undefined = current.zero ?? current.one;
      const parent: Node<T> | undefined = current.parent;
      this.#replaceChild(parent, current, child);
      current = parent;
    }
  }

  #replaceChild(parent: Node<T> | undefined, old: Node<T>, child: Node<T> | undefined): void {
    if (child !== undefined) child.parent = parent;
    if (parent === undefined) {
      if (old.family === 4) this.#root4 = child;
      else this.#root6 = child;
    } else if (parent.zero === old) parent.zero = child;
    else parent.one = child;
  }

  #attach(parent: Node<T> | undefined, child: Node<T>): void {
    child.parent = parent;
    if (parent === undefined) {
      if (child.family === 4) this.#root4 = child;
      else this.#root6 = child;
    } else if (bitOf(child, parent.length) === 0) parent.zero = child;
    else parent.one = child;
  }
}

/** Gives `owner` prefixes and takes some away, in this order; `replace` takes all that it had first. */
export function applyAllowedIps<T extends object>(
  table: AllowedIps<T>,
  owner: T,
  replace: boolean,
  updates: readonly AllowedIpUpdate[],
): void {
  if (replace) table.removeOwner(owner);
  for (const prefix of updates) {
    if (prefix.remove === true) table.remove(prefix, owner);
    else table.insert(prefix, owner);
  }
}

function search<T>(root: Node<T> | undefined, w0: number, w1: number, w2: number, w3: number): T | undefined {
  let found: T | undefined;
  let node = root;
  while (node !== undefined && commonBits(node, w0, w1, w2, w3) >= node.length) {
    if (node.owner !== undefined) found = node.owner;
    const { length } = node;
    const word = length < 32 ? w0 : length < 64 ? w1 : length < 96 ? w2 : w3;
    node = ((word >>> (31 - (length & 31))) & 1) === 0 ? node.zero : node.one;
  }
  return found;
}

/** Leading bits in which node and key agree, at most 128. */
function commonBits(node: Key, w0: number, w1: number, w2: number, w3: number): number {
  let difference = node.w0 ^ w0;
  if (difference !== 0) return Math.clz32(difference);
  difference = node.w1 ^ w1;
  if (difference !== 0) return 32 + Math.clz32(difference);
  difference = node.w2 ^ w2;
  if (difference !== 0) return 64 + Math.clz32(difference);
  return 96 + Math.clz32(node.w3 ^ w3);
}

function bitOf(key: Key, index: number): number {
  const word = index < 32 ? key.w0 : index < 64 ? key.w1 : index < 96 ? key.w2 : key.w3;
  return (word >>> (31 - (index & 31))) & 1;
}

function maskWord(word: number, bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? word : (word & (-1 << (32 - bits))) >>> 0;
}

/** All bits of the address: those behind the prefix length never count. */
function keyOf({ address }: Prefix): Key {
  const view = new DataView(address.buffer, address.byteOffset, address.byteLength);
  const word = (i: number): number => (address.length > i * 4 ? view.getUint32(i * 4) : 0);
  return { w0: word(0), w1: word(1), w2: word(2), w3: word(3) };
}

function prefixOf(node: Node<object>): Prefix {
  const address = new Uint8Array(node.family === 4 ? 4 : 16);
  const view = new DataView(address.buffer);
  view.setUint32(0, node.w0);
  if (node.family === 6) {
    view.setUint32(4, node.w1);
    view.setUint32(8, node.w2);
    view.setUint32(12, node.w3);
  }
  return { address, length: node.length };
}
