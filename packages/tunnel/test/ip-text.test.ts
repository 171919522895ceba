import * as fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { BlockList, isIPv4, isIPv6, SocketAddress } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  formatAddress,
  formatEndpoint,
  formatPrefix,
  maskPrefix,
  parseAddress,
  parseEndpoint,
  parsePort,
  parsePrefix,
} from '../src/ip-text.ts';

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Sparse IPv6 addresses: runs of zeros are where the canonical form has its rules.
  fc
    .array(fc.constantFrom(0, 0, 0, 1, 0xffff), { minLength: 8, maxLength: 8 })
    .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]))),
);

describe('addresses', () => {
  it.each([
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['::', '::'],
    ['::1', '::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['0:0:0:0:0:ffff:c000:0201', '::ffff:192.0.2.1'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ])('reads %s and writes %s', (text, canonical) => {
    expect(formatAddress(parseAddress(text)!)).toBe(canonical);
  });

  it.each([
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '010.1.1.1',
    '1.2.3.04',
    '1.2.3.256',
    '0x7f.0.0.1',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1.2.3.4/32',
    '1.2.3.-4',
    '１.2.3.4',
    ':',
    ':::',
    '1::2::3',
    '12345::',
    '::g',
    '[::1]',
    '::1%eth0',
    '::1/64',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::ffff:1.2.3.256',
    '::1.2.3.4:5',
    'example.com',
  ])('refuses %j', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it('writes what it reads, in the form that Node writes', () => {
    fc.assert(
      fc.property(address, (bytes) => {
        const text = formatAddress(bytes);
        expect(parseAddress(text)).toEqual(bytes);
        expect(bytes.length === 4 ? isIPv4(text) : isIPv6(text)).toBe(true);
        const family = bytes.length === 4 ? 'ipv4' : 'ipv6';
        // inet_ntop also dots the end of the IPv4-compatible form, which RFC 5952 does not ask for.
        const node = new SocketAddress({ address: text, family }).address;
        expect(/^::\d+\.\d/.test(node) ? formatAddress(parseAddress(node)!) : node).toBe(text);
      }),
      { numRuns: 2_000, seed: 1 },
    );
  });

  it('accepts nothing that Node refuses', () => {
    const text = fc.string({ unit: fc.constantFrom(...'0123456789abF:.:. %/'.split('')), maxLength: 24 });
    fc.assert(
      fc.property(text, (line) => {
        expect(parseAddress(line) === undefined || isIPv4(line) || isIPv6(line)).toBe(true);
      }),
      { numRuns: 20_000, seed: 2 },
    );
  });

  it('refuses to write another number of bytes', () => {
    expect(() => formatAddress(new Uint8Array(5))).toThrow(RangeError);
  });
});

describe('prefixes', () => {
  it.each([
    ['10.0.0.1/24', '10.0.0.1/24', '10.0.0.0/24'],
    ['10.0.0.1', '10.0.0.1/32', '10.0.0.1/32'],
    ['255.255.255.255/0', '255.255.255.255/0', '0.0.0.0/0'],
    ['10.255.255.255/9', '10.255.255.255/9', '10.128.0.0/9'],
    ['fd00::ffff/120', 'fd00::ffff/120', 'fd00::ff00/120'],
    ['fd00::1', 'fd00::1/128', 'fd00::1/128'],
    ['ffff::/1', 'ffff::/1', '8000::/1'],
    ['::/0', '::/0', '::/0'],
  ])('reads %s as %s, masked %s', (text, written, masked) => {
    const prefix = parsePrefix(text)!;
    expect(formatPrefix(prefix)).toBe(written);
    expect(formatPrefix(maskPrefix(prefix))).toBe(masked);
    expect(formatPrefix(prefix)).toBe(written);
  });

  it.each([
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/024',
    '10.0.0.0/+1',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '::/129',
    '/8',
    'a/8',
  ])('refuses %j', (text) => {
    expect(parsePrefix(text)).toBeUndefined();
  });

  it('masks to a prefix that contains the address', () => {
    fc.assert(
      fc.property(address, fc.nat(128), (bytes, bits) => {
        const length = Math.min(bits, bytes.length * 8);
        const family = bytes.length === 4 ? 'ipv4' : 'ipv6';
        const masked = maskPrefix({ address: bytes, length });
        expect(maskPrefix(masked)).toEqual(masked);
        if (length === 0) return;
        const list = new BlockList();
        list.addSubnet(formatAddress(masked.address), length, family);
        expect(list.check(formatAddress(bytes), family)).toBe(true);
      }),
      { numRuns: 500, seed: 3 },
    );
  });
});

describe('endpoints', () => {
  it.each([
    ['192.0.2.1:1', '192.0.2.1:1'],
    ['192.0.2.1:65535', '192.0.2.1:65535'],
    ['[2001:db8::1]:51820', '[2001:db8::1]:51820'],
    ['[::ffff:192.0.2.1]:51820', '192.0.2.1:51820'],
    ['[fe80::1%7]:51820', '[fe80::1%7]:51820'],
  ])('reads %s and writes %s', (text, written) => {
    expect(formatEndpoint(parseEndpoint(text)!)).toBe(written);
  });

  it('knows an interface by its name', () => {
    const index = readFileSync('/sys/class/net/lo/ifindex', 'ascii').trim();
    expect(parseEndpoint('[fe80::1%lo]:51820')?.scopeId).toBe(Number(index));
  });

  it.each([
    '192.0.2.1',
    '192.0.2.1:',
    '192.0.2.1:0',
    '192.0.2.1:65536',
    '192.0.2.1:051820',
    '[192.0.2.1]:51820',
    '2001:db8::1:51820',
    '[2001:db8::1]',
    '[2001:db8::1]51820',
    '[fe80::1%]:51820',
    '[fe80::1%0]:51820',
    '[fe80::1%no-such-link]:51820',
    '[fe80::1%../lo]:51820',
    'example.com:51820',
  ])('refuses %j', (text) => {
    expect(parseEndpoint(text)).toBeUndefined();
  });

  it('reads ports from 1 to 65535', () => {
    expect([parsePort('1'), parsePort('65535')]).toEqual([1, 65_535]);
    for (const text of ['0', '65536', '', '-1', '1e3', '0x10', ' 1']) expect(parsePort(text)).toBeUndefined();
  });
});
