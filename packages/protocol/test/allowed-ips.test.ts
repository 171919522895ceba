/** Longest prefix match: wireguard-go's steps, a list searched from end to end as the slow reference, and speed of a kind. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { generator } from '../../../test/sim/random.ts';
import { AllowedIps, applyAllowedIps } from '../src/allowed-ips.ts';
import type { Prefix } from '../src/model.ts';
import { hex, ip, vectors } from './support/bytes.ts';

/** Mutants are asked less. */
const LOOKUPS = Number(process.env['SEALANE_LOOKUPS'] ?? 1_000_000);

interface Owner {
  readonly name: string;
}

function find(table: AllowedIps<Owner>, address: Uint8Array): Owner | undefined {
  const view = new DataView(address.buffer, address.byteOffset);
  return address.length === 4 ? table.lookup4(view, 0) : table.lookup6(view, 0);
}

function cidr(text: string): Prefix {
  const [address, length] = text.split('/');
  return { address: ip(address!), length: Number(length) };
}

/** How many nodes a lookup compares with the address: each comparison counts leading zeros once. */
function nodesOnTheWayTo(table: AllowedIps<Owner>, address: Uint8Array): number {
  const { clz32 } = Math;
  let count = 0;
  Math.clz32 = (word) => {
    count += 1;
    return clz32(word);
  };
  try {
    find(table, address);
  } finally {
    Math.clz32 = clz32;
  }
  return count;
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  return bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (0x80 >> (bit & 7)) : byte));
}

/** A list of prefixes; every question goes through all of it, bit by bit. */
class SlowTable {
  readonly entries: { bits: string; family: number; owner: Owner }[] = [];

  static bits(address: Uint8Array): string {
    return Array.from(address, (byte) => byte.toString(2).padStart(8, '0')).join('');
  }

  insert(prefix: Prefix, owner: Owner): void {
    const bits = SlowTable.bits(prefix.address).slice(0, prefix.length);
    this.#drop((entry) => entry.bits === bits && entry.family === prefix.address.length);
    this.entries.push({ bits, family: prefix.address.length, owner });
  }

  remove(prefix: Prefix, owner: Owner): void {
    const bits = SlowTable.bits(prefix.address).slice(0, prefix.length);
    this.#drop((entry) => entry.bits === bits && entry.family === prefix.address.length && entry.owner === owner);
  }

  removeOwner(owner: Owner): void {
    this.#drop((entry) => entry.owner === owner);
  }

  lookup(address: Uint8Array): Owner | undefined {
    const bits = SlowTable.bits(address);
    let best: { bits: string; owner: Owner } | undefined;
    for (const entry of this.entries) {
      if (entry.family !== address.length || !bits.startsWith(entry.bits)) continue;
      if (best === undefined || entry.bits.length > best.bits.length) best = entry;
    }
    return best?.owner;
  }

  /** Their bits, then zeros, and their lengths. */
  prefixesOf(owner: Owner): string[] {
    return this.entries
      .filter((entry) => entry.owner === owner)
      .map(({ family, bits }) => `${bits.padEnd(8 * family, '0')}/${bits.length}`);
  }

  #drop(which: (entry: SlowTable['entries'][number]) => boolean): void {
    for (let i = this.entries.length - 1; i >= 0; i--) if (which(this.entries[i]!)) this.entries.splice(i, 1);
  }
}

describe('an update', () => {
  it('gives and takes in its order, after everything was taken if it replaces', () => {
    const table = new AllowedIps<Owner>();
    const a = { name: 'a' };
    const listed = (): string[] => table.prefixesOf(a).map(({ address, length }) => `${hex(address)}/${length}`);
    const [one, two] = [cidr('10.0.0.0/8'), cidr('10.1.0.0/16')];
    const [three, four] = [cidr('10.2.0.0/16'), cidr('10.3.0.0/16')];
    applyAllowedIps(table, a, false, [one, two, three]);
    expect(listed()).toEqual(['0a000000/8', '0a010000/16', '0a020000/16']);
    applyAllowedIps(table, a, false, [{ ...one, remove: true }, four, { ...two, remove: false }]);
    // What is given again is given last.
    expect(listed()).toEqual(['0a020000/16', '0a030000/16', '0a010000/16']);
    applyAllowedIps(table, a, true, [one]);
    expect(listed()).toEqual(['0a000000/8']);
    applyAllowedIps(table, a, true, []);
    expect(table.isEmpty).toBe(true);
  });
});

describe('AllowedIps', () => {
  const file =
    vectors<Readonly<Record<'ipv4' | 'ipv6', readonly (readonly string[])[]>>>('wireguard-go/allowedips.json');

  it.each(['ipv4', 'ipv6'] as const)('walks the %s steps of wireguard-go', (family) => {
    const table = new AllowedIps<Owner>();
    const owners = new Map<string, Owner>();
    const owner = (name: string): Owner => {
      if (!owners.has(name)) owners.set(name, { name });
      return owners.get(name)!;
    };
    for (const [i, [operation, a, b]] of file[family].entries()) {
      const step = `step ${i}: ${[operation, a, b].join(' ')}`;
      if (operation === 'insert') table.insert(cidr(b!), owner(a!));
      else if (operation === 'remove') table.remove(cidr(b!), owner(a!));
      else if (operation === 'removePeer') table.removeOwner(owner(a!));
      else if (operation === 'is') expect(find(table, ip(b!))?.name, step).toBe(a);
      else if (operation === 'isNot') expect(find(table, ip(b!))?.name, step).not.toBe(a);
      else if (operation === 'empty') expect(table.isEmpty, step).toBe(true);
      else expect.fail(step);
    }
  });

  it('masks host bits, keeps families apart and lists prefixes in the order given', () => {
    const table = new AllowedIps<Owner>();
    const a = { name: 'a' };
    table.insert(cidr('10.1.2.3/9'), a);
    table.insert(cidr('2001:db8::1/33'), a);
    table.insert(cidr('0.0.0.0/0'), a);
    expect(table.prefixesOf(a).map((prefix) => `${hex(prefix.address)}/${prefix.length}`)).toEqual([
      '0a000000/9',
      '20010db8000000000000000000000000/33',
      '00000000/0',
    ]);
    expect(find(table, ip('::'))).toBeUndefined();
    expect(find(table, ip('255.255.255.255'))).toBe(a);
  });

  it.each([4, 16])('takes as many bits of %d bytes as the prefix has, whatever their number', (bytes) => {
    const ones = new Uint8Array(bytes).fill(0xff);
    for (let length = 0; length <= 8 * bytes; length++) {
      const table = new AllowedIps<Owner>();
      const a = { name: 'a' };
      table.insert({ address: ones, length }, a);
      const [prefix] = table.prefixesOf(a);
      expect(SlowTable.bits(prefix!.address)).toBe('1'.repeat(length).padEnd(8 * bytes, '0'));
      expect(prefix!.length).toBe(length);
    }
  });

  it.each([4, 16])('tells %d bytes apart by any one bit, and finds the network that they share', (bytes) => {
    const random = generator(45);
    for (let bit = 0; bit < 8 * bytes; bit++) {
      const table = new AllowedIps<Owner>();
      const [a, b, both] = [{ name: 'a' }, { name: 'b' }, { name: 'both' }];
      const one = random.bytes(bytes);
      const other = flipped(one, bit);
      table.insert({ address: one, length: 8 * bytes }, a);
      table.insert({ address: other, length: 8 * bytes }, b);
      expect([one, other].map((address) => find(table, address))).toEqual([a, b]);
      table.insert({ address: other, length: bit }, both);
      expect(table.prefixesOf(both).map(({ address }) => SlowTable.bits(address))).toEqual([
        SlowTable.bits(one)
          .slice(0, bit)
          .padEnd(8 * bytes, '0'),
      ]);
      table.remove({ address: one, length: 8 * bytes }, a);
      expect([one, other].map((address) => find(table, address))).toEqual([both, b]);
      if (bit > 0) expect(find(table, flipped(one, bit - 1))).toBeUndefined();
    }
  });

  it('makes the way to an address as short as it was, once what lay on it or beside it is gone', () => {
    for (const address of [ip('170.170.170.170'), ip('aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa')]) {
      const table = new AllowedIps<Owner>();
      const [a, b] = [{ name: 'a' }, { name: 'b' }];
      const bits = 8 * address.length;
      table.insert({ address, length: bits }, a);
      expect(nodesOnTheWayTo(table, address)).toBe(1);
      for (let length = 0; length < bits; length++) {
        table.insert({ address, length }, b);
        expect(nodesOnTheWayTo(table, address)).toBe(2);
        table.remove({ address, length }, b);
        expect(nodesOnTheWayTo(table, address)).toBe(1);
        // Two nodes: the network that they share, and the address itself.
        table.insert({ address: flipped(address, length), length: bits }, b);
        expect(nodesOnTheWayTo(table, address)).toBe(2);
        table.remove({ address: flipped(address, length), length: bits }, b);
        expect(nodesOnTheWayTo(table, address)).toBe(1);
      }
      for (let length = 0; length < bits; length++) table.insert({ address, length }, b);
      expect(nodesOnTheWayTo(table, address)).toBe(bits + 1);
      table.removeOwner(b);
      expect(nodesOnTheWayTo(table, address)).toBe(1);
    }
  });

  it('moves a prefix to its new owner', () => {
    const table = new AllowedIps<Owner>();
    const [a, b] = [{ name: 'a' }, { name: 'b' }];
    table.insert(cidr('10.0.0.0/8'), a);
    table.insert(cidr('10.9.9.9/8'), b);
    expect(find(table, ip('10.0.0.1'))).toBe(b);
    expect(table.prefixesOf(a)).toEqual([]);
    table.removeOwner(a);
    expect(find(table, ip('10.0.0.1'))).toBe(b);
    table.removeOwner(b);
    expect(table.isEmpty).toBe(true);
  });

  it.each([
    ['10.0.0.0/8', '10.1.0.0/16', '10.200.0.0/16'],
    ['2001:db8::/32', '2001:db8:1::/48', '2001:db8:8000::/48'],
  ])('keeps what lies in %s when that is taken away, on both sides', (outer, low, high) => {
    const table = new AllowedIps<Owner>();
    const [a, b, c] = [{ name: 'a' }, { name: 'b' }, { name: 'c' }];
    table.insert(cidr(outer), a);
    table.insert(cidr(low), b);
    table.insert(cidr(high), c);
    table.remove(cidr(outer), a);
    expect([low, high, outer].map((text) => find(table, cidr(text).address))).toEqual([b, c, undefined]);
    table.insert(cidr(outer), a);
    table.removeOwner(a);
    expect([low, high, outer].map((text) => find(table, cidr(text).address))).toEqual([b, c, undefined]);
  });

  it('takes away exactly the prefix that is named, and only from its owner', () => {
    const table = new AllowedIps<Owner>();
    const [a, b] = [{ name: 'a' }, { name: 'b' }];
    table.insert(cidr('10.1.0.0/16'), a);
    for (const other of ['10.2.0.0/16', '10.1.0.0/15', '10.1.0.0/17', '11.1.0.0/16', '0.0.0.0/0']) {
      table.remove(cidr(other), a);
      expect(find(table, ip('10.1.2.3'))).toBe(a);
    }
    table.remove(cidr('10.1.0.0/16'), b);
    expect(find(table, ip('10.1.2.3'))).toBe(a);
    table.remove(cidr('10.1.255.255/16'), a);
    expect([find(table, ip('10.1.2.3')), table.isEmpty]).toEqual([undefined, true]);
  });

  // Few distinct bytes, so that prefixes nest, collide and split each other.
  const byte = fc.constantFrom(0x00, 0x01, 0x80, 0xff, 0xfe, 0x7f, 0xc0);
  const address = fc.oneof(
    fc.array(byte, { minLength: 4, maxLength: 4 }).map((bytes) => Uint8Array.from(bytes)),
    fc.array(byte, { minLength: 16, maxLength: 16 }).map((bytes) => Uint8Array.from(bytes)),
    // Neighbours, which part at any bit.
    fc
      .tuple(fc.constantFrom(4, 16), fc.array(fc.nat(127), { maxLength: 3, size: 'max' }))
      .map(([length, bits]) =>
        bits.reduce<Uint8Array>((bytes, bit) => flipped(bytes, bit), new Uint8Array(length).fill(0x5a)),
      ),
  );
  const prefix = fc
    .tuple(address, fc.nat(128))
    .map(([bytes, length]) => ({ address: bytes, length: length % (bytes.length * 8 + 1) }));
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('insert' as const), prefix, owner: fc.nat(3) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('remove' as const), prefix, owner: fc.nat(3) }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('removeKnown' as const), pick: fc.nat(), owner: fc.nat(3) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('removeOwner' as const), owner: fc.nat(3) }) },
  );

  it('agrees with the slow table after any steps', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60, size: 'max' }),
        fc.array(address, { minLength: 5, maxLength: 10 }),
        (steps, probes) => {
          const owners = [0, 1, 2, 3].map((i) => ({ name: `${i}` }));
          const table = new AllowedIps<Owner>();
          const slow = new SlowTable();
          const known: Prefix[] = [];
          for (const s of steps) {
            const owner = owners[s.owner]!;
            if (s.kind === 'removeOwner') {
              table.removeOwner(owner);
              slow.removeOwner(owner);
            } else {
              const target = s.kind === 'removeKnown' ? known[s.pick % Math.max(1, known.length)] : s.prefix;
              if (target === undefined) continue;
              if (s.kind === 'insert') {
                known.push(target);
                table.insert(target, owner);
                slow.insert(target, owner);
              } else {
                table.remove(target, owner);
                slow.remove(target, owner);
              }
            }
            // What a step takes away may take more with it.
            const last = s.kind === 'insert' ? known.slice(-3) : known;
            const probe = [...probes, ...last.map(({ address: bytes }) => bytes)];
            for (const bytes of probe) expect(find(table, bytes)).toBe(slow.lookup(bytes));
          }
          for (const owner of owners) {
            const listed = table.prefixesOf(owner).map(({ address, length }) => `${SlowTable.bits(address)}/${length}`);
            expect(listed.toSorted()).toEqual(slow.prefixesOf(owner).toSorted());
          }
          expect(table.isEmpty).toBe(slow.entries.length === 0);
          for (const owner of owners) table.removeOwner(owner);
          expect(table.isEmpty).toBe(true);
        },
      ),
      { numRuns: 60, seed: 20_260 },
    );
  });

  it('answers 1,000,000 lookups among 10,000 prefixes as the slow way does', { timeout: 120_000 }, () => {
    const random = generator(44);
    const table = new AllowedIps<Owner>();
    const owners = Array.from({ length: 64 }, (_, i) => ({ name: `${i}` }));
    // The reference: a map a prefix length, probed from the longest down.
    const byLength = new Map<string, Owner>();
    const key = (address: Uint8Array, length: number): string => {
      const masked = address.map((value, i) => value & (0xff00 >> Math.min(8, Math.max(0, length - 8 * i))));
      return `${length}/${String.fromCharCode(...masked)}`;
    };
    const lengths4 = [32, 28, 24, 20, 16, 12, 8];
    const lengths6 = [128, 96, 64, 56, 48, 32, 20];
    const someAddress = (family: 4 | 6): Uint8Array => {
      const bytes = random.bytes(family === 4 ? 4 : 16);
      bytes[0] = 10 + random.below(3);
      for (let i = 1; i < bytes.length; i++) if (random.chance(0.6)) bytes[i] = random.below(3);
      return bytes;
    };
    for (let i = 0; i < 10_000; i++) {
      const family = i % 2 === 0 ? 4 : 6;
      const lengths = family === 4 ? lengths4 : lengths6;
      const prefix = { address: someAddress(family), length: lengths[random.below(lengths.length)]! };
      const owner = owners[random.below(owners.length)]!;
      table.insert(prefix, owner);
      byLength.set(`${family}:${key(prefix.address, prefix.length)}`, owner);
    }
    let found = 0;
    for (let i = 0; i < LOOKUPS; i++) {
      const family = i % 2 === 0 ? 4 : 6;
      const address = someAddress(family);
      const owner = find(table, address);
      if (owner !== undefined) found++;
      if (i % 50 !== 0) continue;
      const lengths = family === 4 ? lengths4 : lengths6;
      const expected = lengths
        .map((length) => byLength.get(`${family}:${key(address, length)}`))
        .find((o) => o !== undefined);
      if (owner !== expected) expect.fail(`lookup ${i} of ${hex(address)}`);
    }
    expect(found).toBeGreaterThan(LOOKUPS / 10);
  });

  it('takes 130,560 prefixes of one owner and gives them all back', () => {
    const table = new AllowedIps<Owner>();
    const owner = { name: 'a' };
    for (let i = 0; i < 65_280; i++) {
      table.insert({ address: Uint8Array.of(10, i >>> 8, i & 0xff, 0), length: 32 }, owner);
      table.insert(
        { address: Uint8Array.of(0x20, 1, 0xd, 0xb8, i >>> 8, i & 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), length: 48 },
        owner,
      );
    }
    expect(table.prefixesOf(owner)).toHaveLength(130_560);
    expect(find(table, ip('10.254.255.0'))).toBe(owner);
    table.removeOwner(owner);
    expect(table.isEmpty).toBe(true);
  });
});
