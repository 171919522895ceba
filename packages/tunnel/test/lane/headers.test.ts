/** What the lane does to single packets: answers for addresses without a peer, congestion marks, errors that cross threads. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { combineEcn, ecnOf } from '../../src/lane/ecn.ts';
import { icmpUnreachable } from '../../src/lane/icmp.ts';
import { packError, unpackError } from '../../src/lane/linux-messages.ts';
import { PacketMemory } from '../../src/lane/offload/memory.ts';
import { ACK, build, checksum, type PacketShape } from './reference.ts';

const shape: PacketShape = {
  version: 4,
  protocol: 'udp',
  tos: 0,
  ttl: 64,
  id: 1,
  dontFragment: false,
  extension: 0,
  source: 1,
  destination: 2,
  sourcePort: 1000,
  destinationPort: 2000,
  sequence: 1,
  acknowledgement: 1,
  flags: ACK,
  window: 1,
  tcpOptions: 0,
  payload: new Uint8Array(100),
};
const AT = 64;
const TARGET = 70_000;

function answerTo(packet: Uint8Array): Uint8Array | undefined {
  const memory = new PacketMemory(80_000);
  memory.bytes.fill(0xaa);
  memory.bytes.set(packet, AT);
  const length = icmpUnreachable(memory, AT, packet.length, TARGET);
  expect(memory.bytes[TARGET + length]).toBe(0xaa);
  return length === 0 ? undefined : memory.bytes.slice(TARGET, TARGET + length);
}

describe('icmpUnreachable', () => {
  it.each([0, 1, 100, 547, 549, 5_000])(
    'answers IPv4 with host unreachable, quoting at most what 576 bytes hold: %d',
    (length) => {
      const packet = build({ ...shape, payload: new Uint8Array(length) });
      const answer = answerTo(packet)!;
      expect(answer.length).toBe(Math.min(576, packet.length + 28));
      expect([...answer.subarray(0, 4)]).toEqual([0x45, 0xc0, answer.length >> 8, answer.length & 255]);
      expect([answer[9], answer[20], answer[21]]).toEqual([1, 3, 1]);
      expect([...answer.subarray(12, 20)]).toEqual([...packet.subarray(16, 20), ...packet.subarray(12, 16)]);
      expect([...answer.subarray(28)]).toEqual([...packet.subarray(0, answer.length - 28)]);
      expect(checksum([...answer.subarray(0, 20)])).toBe(0);
      expect(checksum([...answer.subarray(20)])).toBe(0);
    },
  );

  it.each([0, 1, 1_000, 5_000])('answers IPv6 with address unreachable, within 1280 bytes: %d', (length) => {
    const packet = build({ ...shape, version: 6, payload: new Uint8Array(length) });
    const answer = answerTo(packet)!;
    expect(answer.length).toBe(Math.min(1_280, packet.length + 48));
    expect([answer[6], answer[40], answer[41]]).toEqual([58, 1, 3]);
    const size = answer.length - 40;
    expect([answer[4], answer[5]]).toEqual([size >> 8, size & 255]);
    expect([...answer.subarray(8, 40)]).toEqual([...packet.subarray(24, 40), ...packet.subarray(8, 24)]);
    expect(
      checksum([...answer.subarray(8, 40), 0, 0, size >> 8, size & 255, 0, 0, 0, 58, ...answer.subarray(40)]),
    ).toBe(0);
  });

  it('answers echo requests but no ICMP error, fragment, multicast or broadcast', () => {
    const v4 = (change: (packet: Uint8Array) => void): Uint8Array | undefined => {
      const packet = build(shape);
      change(packet);
      return answerTo(packet);
    };
    const icmp = (type: number) => (packet: Uint8Array) => {
      packet[9] = 1;
      packet[20] = type;
    };
    expect(v4(icmp(8))).toBeDefined();
    for (const type of [3, 4, 5, 11, 12]) expect(v4(icmp(type))).toBeUndefined();
    expect(v4((packet) => packet.set([0x20, 1], 6))).toBeUndefined();
    expect(v4((packet) => packet.set([224], 16))).toBeUndefined();
    expect(v4((packet) => packet.set([255, 255, 255, 255], 16))).toBeUndefined();
    expect(v4((packet) => packet.set([0, 0, 0, 0], 12))).toBeUndefined();
    const v6 = (change: (packet: Uint8Array) => void): Uint8Array | undefined => {
      const packet = build({ ...shape, version: 6 });
      change(packet);
      return answerTo(packet);
    };
    expect(v6((packet) => packet.set([0xff, 2], 24))).toBeUndefined();
    expect(v6((packet) => packet.fill(0, 8, 24))).toBeUndefined();
    const icmp6 = (type: number) => (packet: Uint8Array) => {
      packet[6] = 58;
      packet[40] = type;
    };
    expect(v6(icmp6(1))).toBeUndefined();
    expect(v6(icmp6(128))).toBeDefined();
  });

  it('takes any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x45, 0x4f, 0x60, 0x00), (bytes, first) => {
        if (bytes.length > 0) bytes[0] = first;
        const answer = answerTo(bytes);
        expect(answer === undefined || answer.length <= bytes.length + 48).toBe(true);
      }),
    );
  });
});

describe('congestion marks (RFC 6040 figure 4)', () => {
  const NOT = 0;
  const ECT1 = 1;
  const ECT0 = 2;
  const CE = 3;
  /** By inner, then by outer field: what goes on, or a drop. */
  const table: readonly (readonly (number | 'drop')[])[] = [
    [NOT, NOT, NOT, 'drop'],
    [ECT1, ECT1, ECT1, CE],
    [ECT0, ECT1, ECT0, CE],
    [CE, CE, CE, CE],
  ];

  it.each([4, 6] as const)('combines every pair as the RFC says and keeps checksums right: IPv%d', (version) => {
    for (const [inner, row] of table.entries()) {
      for (const [outer, expected] of row.entries()) {
        if (inner === NOT && outer === ECT1) expect(expected).toBe(NOT);
        const memory = new PacketMemory(1_024);
        const packet = build({ ...shape, version, tos: 0xb8 | inner });
        memory.bytes.set(packet, AT);
        const kept = combineEcn(memory, AT, outer);
        expect(kept).toBe(expected !== 'drop');
        if (expected === 'drop') continue;
        expect(ecnOf(memory.bytes, AT)).toBe(expected);
        const whole = build({ ...shape, version, tos: 0xb8 | expected });
        expect([...memory.bytes.subarray(AT, AT + packet.length)]).toEqual([...whole]);
      }
    }
  });
});

describe('errors that cross threads', () => {
  it('keep kind, code, number and cause', () => {
    const cause = Object.assign(new Error('EADDRINUSE'), { code: 'EADDRINUSE', errno: -98 });
    const error = new RangeError('port in use', { cause });
    const copy = unpackError(structuredClone(packError(error)));
    expect(copy).toBeInstanceOf(RangeError);
    expect(copy).toMatchObject({
      message: 'port in use',
      cause: { message: 'EADDRINUSE', code: 'EADDRINUSE', errno: -98 },
    });
    expect(unpackError(packError('just text')).message).toBe('just text');
  });
});
