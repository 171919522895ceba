import fc from 'fast-check';
import { formatAddress, parseAddress } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { holdsPeer, nextFree, parseNetwork, serverAddress } from '../src/state/pool.ts';

/** Every address that the network gives away, in order. */
function exhaust(text: string): string[] {
  const network = parseNetwork(text);
  const taken: Uint8Array[] = [];
  for (;;) {
    const address = nextFree(network, taken);
    if (address === undefined) return taken.map(formatAddress);
    taken.push(address);
  }
}

describe('a block of the pool', () => {
  it('gives the server its first host and a peer the next one', () => {
    const network = parseNetwork('10.7.0.0/24');
    expect(formatAddress(serverAddress(network))).toBe('10.7.0.1');
    expect(formatAddress(nextFree(network, [])!)).toBe('10.7.0.2');
  });

  it('gives every IPv4 host but the network and broadcast addresses, then nothing', () => {
    expect(exhaust('192.0.2.16/29')).toEqual(['192.0.2.18', '192.0.2.19', '192.0.2.20', '192.0.2.21', '192.0.2.22']);
    expect(exhaust('192.0.2.16/30')).toEqual(['192.0.2.18']);
  });

  it('gives every IPv6 host but the router anycast address, then nothing', () => {
    expect(exhaust('fd07::8/125')).toEqual(['fd07::a', 'fd07::b', 'fd07::c', 'fd07::d', 'fd07::e', 'fd07::f']);
    expect(exhaust('fd07::8/126')).toEqual(['fd07::a', 'fd07::b']);
  });

  it('crosses byte borders', () => {
    const taken = Array.from({ length: 254 }, (_, i) => Uint8Array.of(10, 7, 0, i + 2));
    expect(formatAddress(nextFree(parseNetwork('10.7.0.0/16'), taken)!)).toBe('10.7.1.0');
  });

  it('gives a freed address away again, the lowest first', () => {
    const network = parseNetwork('10.7.0.0/24');
    const taken = [2, 3, 5, 6].map((host) => Uint8Array.of(10, 7, 0, host));
    expect(formatAddress(nextFree(network, taken)!)).toBe('10.7.0.4');
  });

  it('does not count addresses of the other family', () => {
    expect(formatAddress(nextFree(parseNetwork('fd07::/64'), [Uint8Array.of(10, 7, 0, 2)])!)).toBe('fd07::2');
  });

  it.each([
    ['10.7.0.0', 'is not an address block'],
    ['10.7.0.0/33', 'is not an address block'],
    ['010.7.0.0/24', 'is not an address block'],
    ['fd07::/129', 'is not an address block'],
    ['example.org/24', 'is not an address block'],
    ['', 'is not an address block'],
    ['10.7.0.1/24', 'the block is 10.7.0.0/24'],
    ['fd07::1/64', 'the block is fd07::/64'],
    ['10.7.0.0/31', 'must have a length of 8 to 30'],
    ['10.7.0.2/32', 'must have a length of 8 to 30'],
    ['fd07::/127', 'must have a length of 8 to 126'],
    ['10.0.0.0/7', 'must have a length of 8 to 30'],
    ['224.0.0.0/24', 'is not a block of addresses for hosts'],
    ['0.0.0.0/8', 'is not a block of addresses for hosts'],
    ['255.255.255.0/24', 'is not a block of addresses for hosts'],
    ['ff02::/64', 'is not a block of addresses for hosts'],
    ['fe80::/64', 'is not a block of addresses for hosts'],
    ['::/64', 'is not a block of addresses for hosts'],
  ])("refuses '%s'", (text, problem) => {
    expect(() => parseNetwork(text)).toThrow(problem);
  });

  const networks = fc.oneof(
    fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 30 })).map(([net, length]) => {
      const start = (net >> (32 - length)) << (32 - length);
      return `198.51.100.${start}/${length}`;
    }),
    fc.integer({ min: 120, max: 126 }).map((length) => `2001:db8::/${length}`),
  );

  it('never gives the same address twice, nor one that it does not hold, whatever is added and removed', () => {
    fc.assert(
      fc.property(networks, fc.array(fc.nat(), { maxLength: 60, size: 'max' }), (text, steps) => {
        const network = parseNetwork(text);
        const server = formatAddress(serverAddress(network));
        const peers = new Set<string>();
        for (const step of steps) {
          if (step % 3 === 0 && peers.size > 0) {
            peers.delete([...peers][step % peers.size]!);
            continue;
          }
          const address = nextFree(
            network,
            [...peers].map((peer) => parseAddress(peer)!),
          );
          if (address === undefined) {
            expect(BigInt(peers.size)).toBe(network.last - network.first);
            continue;
          }
          expect(holdsPeer(network, address)).toBe(true);
          expect(peers).not.toContain(formatAddress(address));
          expect(formatAddress(address)).not.toBe(server);
          peers.add(formatAddress(address));
        }
      }),
      { seed: 7 },
    );
  });
});
