/** Splitting and merging against a reference that is slow and obvious. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Merger } from '../../src/lane/offload/merge.ts';
import { fold, PacketMemory, sum } from '../../src/lane/offload/memory.ts';
import { split } from '../../src/lane/offload/split.ts';
import {
  ACK,
  build,
  checksum,
  CWR,
  ECE,
  FIN,
  PSH,
  read,
  RST,
  segments,
  SYN,
  URG,
  vnetHeader,
  type PacketShape,
} from './reference.ts';
import { fill, shapes } from './shapes.ts';

/** `npm run fuzz` asks for more. */
const TIMES = Math.max(1, Number(process.env['SEALANE_FUZZ'] ?? 500_000) / 500_000);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** As the lane has it. */
const memory = PacketMemory.fast(1_000_000);

/** Splits and returns the packets, or undefined when it was refused. */
function splitOff(header: Uint8Array, packet: Uint8Array, padding = 0): Uint8Array[] | undefined {
  const at = 64 - 10;
  memory.bytes.fill(0xee);
  memory.bytes.set(header, at);
  memory.bytes.set(packet, at + header.length);
  const placed: { readonly at: number; readonly length: number }[] = [];
  let next = 80_000 + padding;
  const place = (length: number): number => {
    placed.push({ at: next, length });
    next += length + 48;
    return placed.at(-1)!.at;
  };
  const done = split(memory, at, header.length + packet.length, { place });
  if (!done) expect(placed).toEqual([]);
  return done ? placed.map((p) => memory.bytes.slice(p.at, p.at + p.length)) : undefined;
}

describe('sum', () => {
  it('gives the checksum of RFC 1071 at every alignment and length', () => {
    const memory = new PacketMemory(4_096);
    for (let i = 0; i < 4_096; i++) memory.bytes[i] = (i * 7 + (i >> 3)) & 0xff;
    for (let offset = 0; offset < 8; offset++) {
      for (let length = 0; length < 80; length++) {
        const folded = fold(sum(memory, offset, length));
        const swapped = ((folded & 0xff) << 8) | (folded >> 8);
        const expected = ~checksum([...memory.bytes.subarray(offset, offset + length)]) & 0xffff;
        expect(swapped % 65_535, `${offset} ${length}`).toBe(expected % 65_535);
      }
    }
  });

  it('does not lose a carry', () => {
    const memory = new PacketMemory(70_000);
    memory.bytes.fill(0xff);
    expect(fold(sum(memory, 0, 65_536))).toBe(0);
    memory.bytes[0] = 0xfe;
    expect(fold(sum(memory, 0, 65_536))).toBe(65_534);
  });
});

describe('split', () => {
  it('cuts every packet as the reference does', { timeout: 60_000 * TIMES }, () => {
    fc.assert(
      fc.property(
        shapes,
        fc.oneof(fc.integer({ min: 1, max: 3_000 }), fc.constant(1_368)),
        fc.nat(3),
        (shape, size, odd) => {
          const gsoSize = Math.max(size, Math.ceil(shape.payload.length / 200));
          const packets = splitOff(vnetHeader(shape, gsoSize), build(shape, true), odd);
          expect(packets?.map(hex)).toEqual(segments(shape, gsoSize).map(hex));
        },
      ),
      { numRuns: Math.ceil(150 * TIMES) },
    );
  });

  it('finishes the checksum of a single packet and leaves finished ones alone', { timeout: 60_000 * TIMES }, () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        expect(splitOff(vnetHeader(shape, 0), build(shape, true))?.map(hex)).toEqual([hex(build(shape))]);
        expect(splitOff(new Uint8Array(10), build(shape))?.map(hex)).toEqual([hex(build(shape))]);
      }),
      { numRuns: Math.ceil(60 * TIMES) },
    );
  });

  const plain: PacketShape = {
    version: 4,
    protocol: 'tcp',
    tos: 0,
    ttl: 64,
    id: 1,
    dontFragment: true,
    extension: 0,
    source: 1,
    destination: 2,
    sourcePort: 1,
    destinationPort: 2,
    sequence: 1,
    acknowledgement: 1,
    flags: ACK,
    window: 9,
    tcpOptions: 0,
    payload: fill(4_000, 1),
  };
  const changed = (change: (header: DataView, packet: Uint8Array) => void, shape = plain): Uint8Array[] | undefined => {
    const header = vnetHeader(shape, 1_000);
    const packet = build(shape, true);
    change(new DataView(header.buffer), packet);
    return splitOff(header, packet);
  };

  it('refuses headers that contradict the packet', () => {
    expect(changed(() => {})).toHaveLength(4);
    expect(changed((h) => h.setUint16(4, 0, true))).toBeUndefined();
    expect(changed((h) => h.setUint8(0, 0))).toBeUndefined();
    expect(changed((h) => h.setUint8(1, 4))).toBeUndefined();
    expect(changed((h) => h.setUint8(1, 3))).toBeUndefined();
    expect(changed((h) => h.setUint8(1, 0x7f))).toBeUndefined();
    expect(changed((h) => h.setUint16(6, 0, true))).toBeUndefined();
    expect(changed((h) => h.setUint16(6, 4_030, true))).toBeUndefined();
    expect(changed((h) => h.setUint16(6, 65_535, true))).toBeUndefined();
    expect(changed((_, p) => (p[0] = 0x46))).toBeUndefined();
    expect(changed((_, p) => (p[0] = 0x95))).toBeUndefined();
    expect(changed((_, p) => (p[32] = 0x40))).toBeUndefined();
    expect(changed((h) => h.setUint8(1, 4), { ...plain, version: 6 })).toHaveLength(4);
    expect(changed((h) => h.setUint16(6, 20, true), { ...plain, version: 6 })).toBeUndefined();
    expect(splitOff(new Uint8Array(10), new Uint8Array(19))).toBeUndefined();
    expect(splitOff(new Uint8Array(9), new Uint8Array(0))).toBeUndefined();
    const partial = Uint8Array.of(1, 0, 0, 0, 0, 0, 20, 0, 200, 0);
    expect(splitOff(partial, build(plain).subarray(0, 60))).toBeUndefined();
  });
});

interface Written {
  readonly header: Uint8Array;
  readonly packet: Uint8Array;
}

/** Runs packets through a merger and returns what it wrote. */
function merge(packets: readonly Uint8Array[], udp = true): Written[] {
  const written: Written[] = [];
  const merger = new Merger(memory, { udp }, (pieces) => {
    const parts = Array.from({ length: pieces.count }, (_, i) =>
      memory.bytes.slice(pieces.offsets[i], pieces.offsets[i]! + pieces.lengths[i]!),
    );
    const all = Buffer.concat(parts);
    written.push({ header: new Uint8Array(all.subarray(0, 10)), packet: new Uint8Array(all.subarray(10)) });
  });
  let at = 64;
  for (const packet of packets) {
    memory.bytes.set(packet, at);
    merger.add(at, packet.length);
    at = (at + packet.length + 48 + 3) & ~3;
  }
  merger.flush();
  return written;
}

/** What the kernel makes of a write: the packets that it stands for. */
function resolve({ header, packet }: Written): Uint8Array[] {
  if (header[1] === 0) {
    expect(hex(header)).toBe('00'.repeat(10));
    return [packet];
  }
  const shape = read(packet);
  const size = new DataView(header.buffer).getUint16(4, true);
  expect(hex(header)).toBe(hex(vnetHeader(shape, size)));
  expect(hex(packet)).toBe(hex(build(shape, true)));
  return segments(shape, size);
}

/** With DF the id means nothing, and a resolved row counts it up where it may have stood still. */
function withoutId(packet: Uint8Array): string {
  if (packet[0]! >>> 4 !== 4 || (packet[6]! & 0x40) === 0) return hex(packet);
  const copy = packet.slice();
  copy.fill(0, 4, 6);
  copy.fill(0, 10, 12);
  return hex(copy);
}

const flowOf = (packet: Uint8Array): string => {
  const v4 = packet[0]! >>> 4 === 4;
  const ip = v4 ? (packet[0]! & 15) * 4 : 40;
  return (
    hex(packet.subarray(v4 ? 9 : 6, v4 ? 10 : 7)) +
    hex(packet.subarray(v4 ? 12 : 8, v4 ? 20 : 40)) +
    hex(packet.subarray(ip, ip + 4))
  );
};

/** The same packets come out, and those of one flow in the order in which they went in. */
function expectFaithful(packets: readonly Uint8Array[], written: readonly Written[]): void {
  const out = written.flatMap(resolve);
  const byFlow = (all: readonly Uint8Array[]): Record<string, string[]> => {
    const flows: Record<string, string[]> = {};
    for (const packet of all) (flows[flowOf(packet)] ??= []).push(withoutId(packet));
    return flows;
  };
  expect(byFlow(out)).toEqual(byFlow(packets));
}

describe('merge', () => {
  const flow: PacketShape = {
    version: 4,
    protocol: 'tcp',
    tos: 2,
    ttl: 64,
    id: 0xfffe,
    dontFragment: true,
    extension: 0,
    source: 1,
    destination: 2,
    sourcePort: 5_201,
    destinationPort: 40_000,
    sequence: 0xffff_f000,
    acknowledgement: 77,
    flags: ACK | PSH,
    window: 501,
    tcpOptions: 12,
    payload: fill(60_000, 3),
  };

  it.each([
    ['TCP over IPv4', flow],
    ['TCP over IPv6', { ...flow, version: 6 as const }],
    ['UDP over IPv4', { ...flow, protocol: 'udp' as const, flags: 0 }],
    ['UDP over IPv6', { ...flow, protocol: 'udp' as const, version: 6 as const, flags: 0 }],
    ['TCP without DF', { ...flow, dontFragment: false }],
  ])('makes one write of a split packet: %s', (_, shape) => {
    const packets = segments(shape, 1_368);
    const written = merge(packets);
    expect(written).toHaveLength(1);
    expectFaithful(packets, written);
    expect(hex(written[0]!.packet)).toBe(hex(build({ ...shape, ...(shape.version === 6 && { id: 0 }) }, true)));
    // And splitting that gives the packets again.
    expect(splitOff(written[0]!.header, written[0]!.packet)?.map(hex)).toEqual(packets.map(hex));
  });

  it('merges no UDP where the system takes none', () => {
    const packets = segments({ ...flow, protocol: 'udp' }, 1_368);
    expect(merge(packets, false)).toHaveLength(packets.length);
  });

  it('takes rows of one id with DF, and not without', () => {
    const still = (dontFragment: boolean): Uint8Array[] =>
      segments({ ...flow, dontFragment }, 1_368).map((packet) => build({ ...read(packet), id: 5 }));
    expect(merge(still(true))).toHaveLength(1);
    expect(merge(still(false))).toHaveLength(44);
  });

  it('merges no packet that may be cut up with one that may not', () => {
    const packets = segments({ ...flow, payload: fill(6_000, 1) }, 1_000);
    const last = packets.at(-1)!;
    const written = merge([...packets.slice(0, -1), build({ ...read(last), dontFragment: false })]);
    expect(written.map(({ packet }) => packet.length)).toEqual([5_052, 1_052]);
  });

  it.each([
    ['65,535 bytes', 1_368, 47],
    ['64 segments', 100, 64],
  ])('writes no more than %s at once', (_, size, most) => {
    for (const version of [4, 6] as const) {
      const half = (from: number): Uint8Array[] =>
        segments(
          { ...flow, version, flags: ACK, sequence: from * size, id: from, payload: fill(40 * size, from) },
          size,
        );
      const packets = [...half(0), ...half(40)];
      const written = merge(packets);
      expectFaithful(packets, written);
      expect(written.map(({ packet }) => Math.floor((packet.length - (version === 4 ? 52 : 72)) / size))).toEqual([
        most,
        80 - most,
      ]);
    }
  });

  it('is faithful to more flows than it keeps open', () => {
    const flows = Array.from({ length: 40 }, (_, n) =>
      segments({ ...flow, sourcePort: n, payload: fill(4_000, n) }, 500),
    );
    const packets = Array.from({ length: 320 }, (_, i) => flows[i % 40]![Math.floor(i / 40)]!);
    expectFaithful(packets, merge(packets));
  });

  it('keeps ten flows apart that take turns', () => {
    const flows = Array.from({ length: 10 }, (_, n) =>
      segments({ ...flow, sourcePort: n, version: n % 2 === 0 ? 4 : 6, payload: fill(12_000, n) }, 1_200),
    );
    const packets = Array.from({ length: 100 }, (_, i) => flows[i % 10]![Math.floor(i / 10)]!);
    const written = merge(packets);
    expect(written).toHaveLength(10);
    expectFaithful(packets, written);
  });

  it(
    'is faithful whatever comes: reordered, repeated, overlapping, odd flags, other headers, corrupt',
    () => {
      const change = fc.record({
        kind: fc.constantFrom(
          'none',
          'none',
          'none',
          'none',
          'none',
          'none',
          'drop',
          'repeat',
          'swap',
          'overlap',
          'fin',
          'syn',
          'rst',
          'ece',
          'cwr',
          'urg',
          'psh',
          'window',
          'ack',
          'options',
          'ttl',
          'tos',
          'corrupt',
          'header',
          'empty',
          'short',
          'extension',
          'id',
          'fragment',
        ),
        seed: fc.nat(1_000),
      });
      const runs = fc.array(
        fc.record({ shape: shapes, size: fc.constantFrom(100, 536, 1_368), count: fc.integer({ min: 1, max: 20 }) }),
        {
          minLength: 1,
          maxLength: 4,
        },
      );
      fc.assert(
        fc.property(runs, fc.array(change, { maxLength: 60 }), fc.boolean(), (flows, changes, interleave) => {
          const rows = flows.map(({ shape, size, count }, n) =>
            segments(
              {
                ...shape,
                extension: 0,
                sourcePort: n,
                flags: shape.flags & ~(SYN | RST | URG),
                payload: fill(size * count - (n % 2), n),
              },
              size,
            ),
          );
          let packets = rows.flat();
          if (interleave)
            packets = packets
              .map((packet, i) => ({ packet, key: (i * 7_919) % 13 }))
              .toSorted((a, b) => a.key - b.key)
              .map((p) => p.packet);
          packets = packets.flatMap((packet, i) => alter(packet, changes[i]));
          expectFaithful(packets, merge(packets));
        }),
        { numRuns: Math.ceil(300 * TIMES) },
      );
    },
    120_000 * TIMES,
  );

  it('writes truncated headers as they are', () => {
    for (const version of [4, 6] as const) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const packet = build({ ...flow, version, protocol, payload: fill(20, 1) });
        for (let length = version === 4 ? 20 : 40; length < packet.length; length++) {
          const cut = packet.slice(0, length);
          expect(merge([cut, cut]).map((w) => hex(w.packet))).toEqual([hex(cut), hex(cut)]);
        }
      }
    }
  });
});

function alter(packet: Uint8Array, change: { readonly kind: string; readonly seed: number } | undefined): Uint8Array[] {
  if (change === undefined || change.kind === 'none') return [packet];
  const shape = read(packet);
  const flag = (flags: number): Uint8Array[] => [build({ ...shape, flags: shape.flags | flags })];
  switch (change.kind) {
    case 'drop':
      return [];
    case 'repeat':
      return [packet, packet];
    case 'overlap':
      return [packet, build({ ...shape, sequence: (shape.sequence + 7) >>> 0 })];
    case 'fin':
      return flag(FIN);
    case 'syn':
      return flag(SYN);
    case 'rst':
      return flag(RST);
    case 'ece':
      return flag(ECE);
    case 'cwr':
      return flag(CWR);
    case 'urg':
      return flag(URG);
    case 'psh':
      return flag(PSH);
    case 'window':
      return [build({ ...shape, window: shape.window ^ 1 })];
    case 'ack':
      return [build({ ...shape, acknowledgement: (shape.acknowledgement + 1) >>> 0 })];
    case 'options':
      return [build({ ...shape, tcpOptions: (shape.tcpOptions + 4) % 44 })];
    case 'ttl':
      return [build({ ...shape, ttl: (shape.ttl + 1) & 255 })];
    case 'tos':
      return [build({ ...shape, tos: shape.tos ^ 1 })];
    case 'empty':
      return [build({ ...shape, payload: new Uint8Array(0) })];
    case 'short':
      return [build({ ...shape, payload: shape.payload.subarray(1) })];
    case 'extension':
      return [build({ ...shape, extension: 8 })];
    case 'id':
      return [build({ ...shape, id: (shape.id + 3) & 0xffff })];
    case 'swap': {
      const later = build({ ...shape, sequence: (shape.sequence + shape.payload.length) >>> 0 });
      return [later, packet];
    }
    case 'corrupt':
    case 'header':
    case 'fragment': {
      const copy = packet.slice();
      if (change.kind === 'fragment' && shape.version === 4) copy[6] = 0x20;
      else if (change.kind === 'header' && shape.version === 4) copy[10]! ^= 1;
      else copy[copy.length - 1]! ^= 1 + (change.seed & 0x7f);
      return [copy];
    }
    default:
      throw new Error(`no such change: ${change.kind}`);
  }
}
