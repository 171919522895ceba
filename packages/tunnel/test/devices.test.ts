import { describe, expect, it } from 'vitest';
import { HEADROOM, PacketBatch, TAILROOM } from '@sealane/protocol';
import { DeviceClosedError, EchoClient, EchoHost, memoryPair } from '@sealane/tunnel';
import { CLIENT4, CLIENT6, eventually, SERVER4, SERVER6 } from './support/tunnels.ts';

const nothing = { readable: () => undefined, link: () => undefined, closed: () => undefined };

describe('a memory pair', () => {
  it('carries packets in order with room around each', () => {
    const [a, b] = memoryPair({ mtu: 1000 });
    for (let n = 1; n <= 40; n++) expect(a.write(new Uint8Array(2000).fill(n), 500, n * 20)).toBe(true);
    const batch = new PacketBatch(new Uint8Array(8192), 16);
    let seen = 0;
    for (;;) {
      batch.clear();
      if (b.read(batch) === 0) break;
      let end = 0;
      for (let i = 0; i < batch.count; i++) {
        seen++;
        const [offset, length] = [batch.offsets[i]!, batch.lengths[i]!];
        expect(offset - end).toBeGreaterThanOrEqual(HEADROOM);
        expect(length).toBe(seen * 20);
        expect(batch.buffer.subarray(offset, offset + length)).toEqual(new Uint8Array(length).fill(seen));
        end = offset + length + TAILROOM;
        expect(end).toBeLessThanOrEqual(batch.buffer.length);
      }
    }
    expect(seen).toBe(40);
  });

  it('refuses what does not fit, and takes more once the reader has read', () => {
    const [a, b] = memoryPair({ mtu: 100 });
    const packet = new Uint8Array(101);
    expect(a.write(packet, 0, 101)).toBe(false);
    let accepted = 0;
    while (a.write(packet, 0, 100)) accepted++;
    expect(accepted).toBe(1024);
    const batch = new PacketBatch(new Uint8Array(65_536), 10);
    expect(b.read(batch)).toBe(10);
    for (let n = 0; n < 10; n++) expect(a.write(packet, 0, 100)).toBe(true);
    expect(a.write(packet, 0, 100)).toBe(false);
  });

  it('gives one notice for many packets, also for those from before its start', async () => {
    const [a, b] = memoryPair();
    a.write(new Uint8Array(10), 0, 10);
    let notices = 0;
    b.start({ ...nothing, readable: () => void notices++ });
    for (let n = 0; n < 5; n++) a.write(new Uint8Array(10), 0, 10);
    await eventually(() => notices).toBe(1);
    expect(notices).toBe(1);
    a.write(new Uint8Array(10), 0, 10);
    await eventually(() => notices).toBe(2);
  });

  it('closes both ends, and tells each once', async () => {
    const [a, b] = memoryPair();
    const closed: string[] = [];
    a.start({ ...nothing, closed: () => void closed.push('a') });
    b.start({ ...nothing, closed: () => void closed.push('b') });
    await a.close();
    await b.close();
    await eventually(() => closed.toSorted()).toEqual(['a', 'b']);
    expect(() => b.read(new PacketBatch(new Uint8Array(100), 1))).toThrow(DeviceClosedError);
    expect(a.write(new Uint8Array(10), 0, 10)).toBe(false);
  });

  it('names a wrong MTU', () => {
    for (const mtu of [0, 65_536, 1.5, Number.NaN]) expect(() => memoryPair({ mtu })).toThrow('mtu must be');
  });
});

describe('echo', () => {
  it('answers both families, odd lengths and empty payloads', async () => {
    const [a, b] = memoryPair();
    const host = new EchoHost({ device: a, addresses: [SERVER4, SERVER6] });
    const client = new EchoClient({ device: b, addresses: [CLIENT4, CLIENT6] });
    for (const target of [SERVER4, SERVER6]) {
      for (const size of [0, 1, 2, 55, 1371, client.largestPayload(target)]) {
        expect(await client.ping({ target, size, timeoutMs: 5000 })).toBeGreaterThan(0);
      }
      expect(await client.bulk({ target, bytes: 300_001 })).toMatchObject({ bytes: 300_001, lost: 0, wrong: 0 });
    }
    expect(host.counts.ignored).toBe(0);
    await client.close();
  });

  it('writes a request that is right to the byte (RFC 792, checksums by hand)', () => {
    const [a, b] = memoryPair();
    const client = new EchoClient({ device: b, addresses: [new Uint8Array([127, 0, 0, 2])] });
    const batch = new PacketBatch(new Uint8Array(4096), 4);
    void client.ping({ target: new Uint8Array([127, 0, 0, 1]), size: 3 });
    expect(a.read(batch)).toBe(1);
    const packet = batch.buffer.subarray(batch.offsets[0], batch.offsets[0]! + batch.lengths[0]!);
    expect(Array.from(packet.subarray(0, 20))).toEqual([
      0x45, 0, 0, 31, 0, 0, 0, 0, 64, 1, 0x7c, 0xdb, 127, 0, 0, 2, 127, 0, 0, 1,
    ]);
    let sum = 0;
    for (let i = 20; i < 31; i++) sum += packet[i]! << (i % 2 === 0 ? 8 : 0);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    expect(sum).toBe(0xffff);
    return client.close();
  });

  it('ignores other addresses, damaged packets and fragments', async () => {
    const [a, b] = memoryPair();
    const host = new EchoHost({ device: a, addresses: [SERVER4] });
    const [c, d] = memoryPair();
    const client = new EchoClient({ device: d, addresses: [CLIENT4] });
    const batch = new PacketBatch(new Uint8Array(4096), 4);
    void client.ping({ target: SERVER4, size: 20 });
    c.read(batch);
    const good = batch.buffer.slice(batch.offsets[0], batch.offsets[0]! + batch.lengths[0]!);
    for (let i = 0; i < good.length; i++) {
      const bad = good.slice();
      bad[i]! ^= 0x41;
      b.write(bad, 0, bad.length);
    }
    for (let length = 0; length < good.length; length++) b.write(good, 0, length);
    await eventually(() => host.counts.ignored).toBe(2 * good.length);
    b.write(good, 0, good.length);
    await eventually(() => host.counts.answered).toBe(1);
    expect(host.counts).toEqual({ answered: 1, ignored: 2 * good.length, refused: 0 });
    await Promise.all([client.close(), host.close()]);
  });

  it('counts lost and altered replies', async () => {
    const [a, b] = memoryPair();
    const client = new EchoClient({ device: b, addresses: [CLIENT4] });
    const [c, d] = memoryPair();
    const host = new EchoHost({ device: d, addresses: [SERVER4] });
    const batch = new PacketBatch(new Uint8Array(65_536), 16);
    let seen = 0;
    const forward = (from: typeof a, to: typeof c, judge: () => boolean): void => {
      from.start({
        ...nothing,
        readable: () => {
          batch.clear();
          while (from.read(batch) > 0) {
            for (let i = 0; i < batch.count; i++) {
              if (judge()) to.write(batch.buffer, batch.offsets[i]!, batch.lengths[i]!);
            }
            batch.clear();
          }
        },
      });
    };
    forward(a, c, () => ++seen % 10 !== 0);
    forward(c, a, () => true);
    const result = await client.bulk({ target: SERVER4, bytes: 100_000, size: 1000, timeoutMs: 200 });
    expect(result).toMatchObject({ packets: 100, lost: 10, bytes: 90_000, wrong: 0 });
    expect(await client.ping({ target: new Uint8Array([127, 77, 0, 9]), timeoutMs: 100 })).toBeUndefined();
    await Promise.all([client.close(), host.close()]);
  });

  it('names wrong arguments', () => {
    const [, b] = memoryPair({ mtu: 1280 });
    const client = new EchoClient({ device: b, addresses: [CLIENT4] });
    expect(() => client.ping({ target: SERVER6 })).toThrow('target');
    expect(() => client.ping({ target: SERVER4, size: 1253 })).toThrow('size must be 0 to 1252 bytes');
    return client.close();
  });
});
