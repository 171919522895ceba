/** Splitting and merging of what a kernel really handed over: every header field and checksum against a slow reading of the packets. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Merger } from '../../src/lane/offload/merge.ts';
import { PacketMemory } from '../../src/lane/offload/memory.ts';
import { split } from '../../src/lane/offload/split.ts';
import { ACK, checksum, CWR, FIN, PSH } from './reference.ts';

const VNET = 10;
const GSO_NONE = 0;

interface Row {
  readonly header: Uint8Array;
  readonly packet: Uint8Array;
}

function rows(file: string): Row[] {
  const bytes = readFileSync(new URL(`../../../../test/vectors/captures/${file}`, import.meta.url));
  const found: Row[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32LE(at);
    const row = new Uint8Array(bytes.subarray(at + 4, at + 4 + length));
    found.push({ header: row.subarray(0, VNET), packet: row.subarray(VNET) });
    at += 4 + length;
  }
  return found;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const isV4 = (packet: Uint8Array): boolean => packet[0]! >>> 4 === 4;
const transportOf = (packet: Uint8Array): number => (isV4(packet) ? (packet[0]! & 15) * 4 : 40);
const isTcp = (packet: Uint8Array): boolean => packet[isV4(packet) ? 9 : 6] === 6;
const headerOf = (packet: Uint8Array): number =>
  transportOf(packet) + (isTcp(packet) ? (packet[transportOf(packet) + 12]! >>> 4) * 4 : 8);
const word = (packet: Uint8Array, at: number): number => new DataView(packet.buffer, packet.byteOffset).getUint16(at);
const sequenceOf = (packet: Uint8Array): number =>
  new DataView(packet.buffer, packet.byteOffset).getUint32(transportOf(packet) + 4);
const flagsOf = (packet: Uint8Array): number => packet[transportOf(packet) + 13]!;

/** Lengths and both checksums, summed over the bytes as RFC 1071 says. */
function expectSound(packet: Uint8Array): void {
  const at = transportOf(packet);
  const length = packet.length - at;
  const addresses = isV4(packet) ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const protocol = isTcp(packet) ? 6 : 17;
  expect(isV4(packet) ? word(packet, 2) : word(packet, 4) + 40).toBe(packet.length);
  if (isV4(packet)) expect(checksum([...packet.subarray(0, at)])).toBe(0);
  if (!isTcp(packet)) expect(word(packet, at + 4)).toBe(length);
  expect(checksum([...addresses, 0, protocol, length >>> 8, length & 0xff, ...packet.subarray(at)])).toBe(0);
}

/** Everything but lengths, id, checksums, sequence number and the flags that only some segments keep. */
function lasting(packet: Uint8Array): string {
  const at = transportOf(packet);
  const header = packet.slice(0, headerOf(packet));
  for (const field of isV4(packet) ? [2, 3, 4, 5, 10, 11] : [4, 5]) header[field] = 0;
  if (isTcp(packet)) {
    header.fill(0, at + 4, at + 8);
    header.fill(0, at + 16, at + 18);
    header[at + 13] = header[at + 13]! & ~(FIN | PSH | CWR);
  } else {
    header.fill(0, at + 4, at + 8);
  }
  return hex(header);
}

function splitOff({ header, packet }: Row): Uint8Array[] {
  const memory = new PacketMemory(400_000);
  const at = 64 - VNET;
  memory.bytes.set(header, at);
  memory.bytes.set(packet, at + VNET);
  const placed: { readonly at: number; readonly length: number }[] = [];
  let next = 80_000;
  const place = (length: number): number => {
    placed.push({ at: next, length });
    next += (length + 51) & ~3;
    return placed.at(-1)!.at;
  };
  expect(split(memory, at, VNET + packet.length, { place })).toBe(true);
  return placed.map((p) => memory.bytes.slice(p.at, p.at + p.length));
}

function merge(packets: readonly Uint8Array[]): Row[] {
  const memory = new PacketMemory(800_000);
  const written: Row[] = [];
  const merger = new Merger(memory, { udp: true }, (pieces) => {
    const parts = Array.from({ length: pieces.count }, (_, i) =>
      memory.bytes.slice(pieces.offsets[i], pieces.offsets[i]! + pieces.lengths[i]!),
    );
    const all = new Uint8Array(Buffer.concat(parts));
    written.push({ header: all.subarray(0, VNET), packet: all.subarray(VNET) });
  });
  let at = 64;
  for (const packet of packets) {
    memory.bytes.set(packet, at);
    merger.add(at, packet.length);
    at = (at + packet.length + 51) & ~3;
  }
  merger.flush();
  return written;
}

describe('packets of many segments, as Linux hands them over', () => {
  const captured = rows('tun-reads.bin');
  const trains = captured.filter(({ header }) => header[1] !== GSO_NONE);

  it('are of every kind', () => {
    const kinds = new Set(trains.map(({ packet }) => `${isV4(packet) ? 4 : 6} ${isTcp(packet) ? 'tcp' : 'udp'}`));
    expect([...kinds].toSorted()).toEqual(['4 tcp', '4 udp', '6 tcp', '6 udp']);
    expect(Math.max(...trains.map(({ packet }) => packet.length))).toBeGreaterThan(16_384);
  });

  it('are cut into packets whose every field is right', () => {
    for (const row of captured) {
      const packets = splitOff(row);
      const size =
        row.header[1] === GSO_NONE
          ? row.packet.length
          : new DataView(row.header.buffer).getUint16(row.header.byteOffset + 4, true);
      const whole = row.packet.subarray(headerOf(row.packet));
      expect(hex(Buffer.concat(packets.map((packet) => packet.subarray(headerOf(packet)))))).toBe(hex(whole));
      for (const [i, packet] of packets.entries()) {
        const isLast = i === packets.length - 1;
        expectSound(packet);
        expect(lasting(packet)).toBe(lasting(row.packet));
        if (!isLast) expect(packet.length - headerOf(packet)).toBe(size);
        if (isV4(packet)) expect(word(packet, 4)).toBe((word(row.packet, 4) + i) & 0xffff);
        if (!isTcp(packet)) continue;
        expect(sequenceOf(packet)).toBe((sequenceOf(row.packet) + i * size) >>> 0);
        const kept = (isLast ? FIN | PSH : 0) | (i === 0 ? CWR : 0) | ~(FIN | PSH | CWR);
        expect(flagsOf(packet)).toBe(flagsOf(row.packet) & kept);
      }
    }
  });

  it('come back byte for byte when their packets are merged', () => {
    // A row with a congestion mark answered (CWR) stays apart, as in the kernel.
    const plain = trains.filter(({ packet }) => !isTcp(packet) || (flagsOf(packet) & ~PSH) === ACK);
    expect(plain.length).toBeGreaterThan(10);
    for (const row of plain)
      expect(merge(splitOff(row)).map(({ header, packet }) => hex(header) + hex(packet))).toEqual([
        hex(row.header) + hex(row.packet),
      ]);
  });
});

describe('single packets, as Linux sends them', () => {
  const packets = rows('tun-packets.bin').map(({ packet }) => packet);

  it.each([1, 7, 32, 439])('are merged %i at a time, and none is changed', (batch) => {
    const out: string[] = [];
    let writes = 0;
    for (let at = 0; at < packets.length; at += batch) {
      const written = merge(packets.slice(at, at + batch));
      writes += written.length;
      // A packet that is handed on alone is as it was; a row is judged by cutting it again.
      for (const row of written) out.push(...(row.header[1] === GSO_NONE ? [row.packet] : splitOff(row)).map(hex));
    }
    const connections = (all: readonly string[]): Record<string, string[]> => {
      const flows: Record<string, string[]> = {};
      for (const packet of all)
        (flows[packet.startsWith('4') ? packet.slice(24, 48) : packet.slice(16, 88)] ??= []).push(packet);
      return flows;
    };
    expect(Object.keys(connections(out)).length).toBeGreaterThan(4);
    expect(connections(out)).toEqual(connections(packets.map(hex)));
    expect(writes).toBeLessThan(batch === 1 ? packets.length + 1 : packets.length * 0.8);
  });

  it('have retransmissions among them', () => {
    const seen = new Set<string>();
    const again = packets.filter((packet) => {
      const key = `${hex(packet.subarray(12, 20))} ${word(packet, transportOf(packet))} ${sequenceOf(packet)}`;
      const isAgain = packet.length > headerOf(packet) && seen.has(key);
      seen.add(key);
      return isAgain;
    });
    expect(again.length).toBeGreaterThan(4);
  });
});
