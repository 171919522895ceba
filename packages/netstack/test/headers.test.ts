/** Options of IPv4 (RFC 791, RFC 7126) and extension headers of IPv6 (RFC 8200), on the way in. */
import { describe, expect, it } from 'vitest';
import { checksumOf, sumBytes } from '../src/checksum.ts';
import { IpPacket } from '../src/ip.ts';
import { parseIpv4 } from '../src/ipv4.ts';
import { parseIpv6 } from '../src/ipv6.ts';
import { ip, udpPayload } from './support/packets.ts';
import { Probe } from './support/probe.ts';
import { A6, B6 } from './support/sim.ts';

const PAYLOAD = [1, 2, 3, 4, 5, 6, 7, 8];
const UDP = 17;
const zeros = (length: number): number[] => Array.from({ length }, () => 0);

function ipv4(options: readonly number[], change: (view: DataView) => void = () => {}): DataView {
  const padded = [...options, ...zeros((4 - (options.length % 4)) % 4)];
  const length = 20 + padded.length;
  const start = [0x40 | (length / 4), 0, 0, length + PAYLOAD.length, 0, 1, 0, 0, 64, UDP, 0, 0];
  const bytes = Uint8Array.from([...start, 10, 0, 0, 1, 10, 0, 0, 2, ...padded, ...PAYLOAD]);
  const view = new DataView(bytes.buffer);
  view.setUint16(10, checksumOf(sumBytes(view, 0, length)));
  change(view);
  return view;
}

/** Each extension header is its number and its bytes, of which the first is filled in. */
function ipv6(headers: readonly (readonly [number: number, bytes: readonly number[]])[], source = [0xfd]): DataView {
  const chain = headers.flatMap(([, bytes], i) => [headers[i + 1]?.[0] ?? UDP, ...bytes.slice(1)]);
  const address = (first: readonly number[], last: number): number[] => [...first, ...zeros(15 - first.length), last];
  const length = chain.length + PAYLOAD.length;
  const start = [0x60, 0, 0, 0, 0, length, headers[0]?.[0] ?? UDP, 64];
  const bytes = [...start, ...address(source, 1), ...address([0xfd], 2), ...chain, ...PAYLOAD];
  return new DataView(Uint8Array.from(bytes).buffer);
}

const payloadOf = (packet: IpPacket, view: DataView): number[] => [
  ...new Uint8Array(view.buffer, packet.payload, packet.payloadLength),
];

describe('IPv4 options', () => {
  it.each([
    ['none', []],
    ['no operation and end', [1, 1, 0, 99]],
    ['router alert (RFC 2113)', [148, 4, 0, 0]],
    ['record route behind no operation', [1, 7, 7, 4, 0, 0, 0, 0]],
    ['what follows the end is no option', [0, 131, 3, 4]],
  ] as const)('are passed over: %s', (_what, options) => {
    const view = ipv4(options);
    const packet = new IpPacket();
    expect(parseIpv4(packet, view, 0, view.byteLength)).toBeUndefined();
    expect(packet.protocol).toBe(UDP);
    expect(payloadOf(packet, view)).toEqual(PAYLOAD);
  });

  it.each([
    ['loose source route', [131, 7, 4, 10, 0, 0, 9]],
    ['strict source route behind others', [1, 148, 4, 0, 0, 137, 7, 4, 10, 0, 0, 9]],
    ['a length of none', [148, 0, 0, 0]],
    ['a length that does not hold the option', [148, 1, 0, 0]],
    ['a length past the header', [148, 5, 0, 0]],
    ['no room for a length', [1, 1, 1, 148]],
  ] as const)('are refused: %s (RFC 7126 §4.3)', (_what, options) => {
    const view = ipv4(options);
    expect(parseIpv4(new IpPacket(), view, 0, view.byteLength)).toBe('malformed-ip');
  });

  it('are under the checksum', () => {
    const view = ipv4([148, 4, 0, 0], (of) => of.setUint8(23, 1));
    expect(parseIpv4(new IpPacket(), view, 0, view.byteLength)).toBe('bad-checksum');
  });
});

describe('IPv6 extension headers', () => {
  const pad = [0, 0, 1, 4, 0, 0, 0, 0];
  it.each([
    ['none', []],
    ['hop by hop, padded', [[0, pad]]],
    ['destination options with an option to skip', [[60, [0, 0, 0x1e, 4, 9, 9, 9, 9]]]],
    ['single bytes of padding', [[60, [0, 0, 0, 0, 0, 0, 0, 0]]]],
    ['routing with no segment left', [[43, [0, 0, 4, 0, 0, 0, 0, 0]]]],
    ['an atomic fragment (RFC 6946)', [[44, [0, 0, 0, 0, 0, 0, 0, 7]]]],
    [
      'several, one of 16 bytes',
      [
        [0, pad],
        [60, [0, 1, 1, 12, ...zeros(12)]],
        [43, [0, 0, 4, 0, 0, 0, 0, 0]],
      ],
    ],
  ] as const)('are passed over: %s', (_what, headers) => {
    const view = ipv6(headers);
    const packet = new IpPacket();
    expect(parseIpv6(packet, view, 0, view.byteLength)).toBeUndefined();
    expect([packet.protocol, packet.isFragment]).toEqual([UDP, false]);
    expect(payloadOf(packet, view)).toEqual(PAYLOAD);
  });

  it('say which fragment it is', () => {
    const view = ipv6([[44, [0, 0, 0x05, 0xa9, 0x80, 0, 0, 7]]]);
    const packet = new IpPacket();
    expect(parseIpv6(packet, view, 0, view.byteLength)).toBeUndefined();
    expect(packet).toMatchObject({ isFragment: true, fragmentOffset: 0x5a8, moreFragments: true, protocol: UDP });
    expect(packet.fragmentId >>> 0).toBe(0x8000_0007);
  });

  it.each([
    ['routing with segments left (RFC 5095)', [[43, [0, 0, 0, 1, 0, 0, 0, 0]]]],
    [
      'hop by hop that is not first',
      [
        [60, pad],
        [0, pad],
      ],
    ],
    ['an option that must be known (RFC 8200 §4.2)', [[60, [0, 0, 0x5e, 4, 0, 0, 0, 0]]]],
    ['an option past its header', [[60, [0, 0, 0x1e, 5, 0, 0, 0, 0]]]],
    ['an option without room for its length', [[60, [0, 0, 1, 3, 0, 0, 0, 0x1e]]]],
    ['a header past the packet', [[60, [0, 9, 1, 4, 0, 0, 0, 0]]]],
    ['nine of them', Array.from({ length: 9 }, () => [60, pad] as const)],
  ] as const)('are refused: %s', (_what, headers) => {
    const view = ipv6(headers);
    expect(parseIpv6(new IpPacket(), view, 0, view.byteLength)).toBe('malformed-ip');
  });

  it('of a packet that is cut short are refused', () => {
    const view = ipv6([[60, pad]]);
    expect(parseIpv6(new IpPacket(), view, 0, view.byteLength - 1)).toBe('malformed-ip');
    const bare = ipv6([[60, pad]]);
    bare.setUint16(4, 4);
    expect(parseIpv6(new IpPacket(), bare, 0, bare.byteLength)).toBe('malformed-ip');
  });
});

describe('IPv6 addresses', () => {
  it('that map IPv4 never come from the wire (RFC 4942 §2.2)', () => {
    const view = ipv6([], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10]);
    expect(parseIpv6(new IpPacket(), view, 0, view.byteLength)).toBe('bad-source');
  });
});

describe('IPv6 fragments', () => {
  it('are put together under the headers of the first by offset (RFC 8200 §4.5), whichever comes last', () => {
    const probe = new Probe();
    const got: number[] = [];
    probe.stack.bindUdp({ port: 9, onMessage: (data) => got.push(data.length) });
    const payload = udpPayload(A6, 7, B6, 9, new Uint8Array(120));
    const first = ip(A6, B6, UDP, payload.slice(0, 64), { id: 1, offset: 0, more: true });
    const last = ip(A6, B6, 6, payload.slice(64), { id: 1, offset: 64 });
    probe.say(first, last);
    expect(got).toEqual([120]);
  });
});
