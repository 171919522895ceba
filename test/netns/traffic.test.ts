/**
 * What a tunnel carries: TCP and UDP, IPv4 and IPv6 inside and outside, small and jumbo packets, many streams, and never a
 * datagram whose padding goes beyond the interface's MTU.
 */
import { describe, expect, it } from 'vitest';
import { iperf, iperfServer } from '../support/iperf.ts';
import { Lab, until } from '../support/lab.ts';
import { Capture } from '../support/packets.ts';
import { INNER, missingFor, OUTER, PAIRS, ping, wireguardPair } from '../support/wireguard.ts';

const SMALL = 1420;
const JUMBO = 34_736;
const MEBIBYTE = 2 ** 20;
/** Bytes that a datagram adds to its padded packet. */
const OVERHEAD = 32;

describe.for(PAIRS)('%s begins, %s answers', { timeout: 120_000 }, (implementations) => {
  const reason = missingFor(implementations, 'iperf3', 'ping', 'ss', 'tcpdump');

  it(`carries TCP and UDP over and in IPv4 and IPv6, MTU ${SMALL} and ${JUMBO}`, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations);
    await iperfServer(b.host);
    for (const mtu of [SMALL, JUMBO]) {
      for (const device of [a, b]) await device.setMtu(mtu);
      for (const outer of [OUTER.b4, OUTER.b6]) {
        const endpoint = outer.includes(':') ? `[${outer}]:51002` : `${outer}:51002`;
        await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', endpoint);
        for (const inner of [INNER.b4, INNER.b6]) {
          const size = mtu - (inner.includes(':') ? 48 : 28);
          expect((await ping(a.host, inner, { count: 3, size })).received, `${size} bytes by ${outer}`).toBe(3);
          // What is under way when the sender ends does not count as received.
          const tcp = await iperf(a.host, inner, ['-n', '16M']);
          expect(tcp.end.sum_received.bytes).toBeGreaterThanOrEqual(8 * MEBIBYTE);
          const length = mtu === SMALL ? '1000' : '20000';
          const udp = await iperf(a.host, inner, ['-u', '-b', '5M', '-n', '500K', '-l', length]);
          expect(udp.end.sum.packets).toBeGreaterThanOrEqual(25);
          // A busy receiver's own buffer may overflow.
          expect(udp.end.sum.lost_packets).toBeLessThan(udp.end.sum.packets / 2);
        }
        expect(await a.endpoint()).toBe(endpoint);
      }
    }
  });

  it(`carries 4, 5 and 50 TCP streams at once, MTU ${SMALL} and ${JUMBO}`, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, implementations);
    await iperfServer(b.host);
    for (const mtu of [SMALL, JUMBO]) {
      for (const device of [a, b]) await device.setMtu(mtu);
      for (const [streams, direction] of [
        ['4', []],
        ['5', ['-R']],
        ['50', []],
      ] as const) {
        const report = await iperf(a.host, INNER.b4, ['-P', streams, '-t', '2', ...direction]);
        // Every stream was opened, ran and was closed; how much they carried is the machine's affair.
        expect(report.end.streams).toHaveLength(Number(streams));
        expect(report.end.sum_received.bytes).toBeGreaterThan(2 ** 16);
      }
      expect((await ping(b.host, INNER.a6, { count: 3 })).received).toBe(3);
    }
  });
});

describe.for(['sealane', 'sealane portable'] as const)('%s', (implementation) => {
  it('pads to a multiple of 16 but never above the MTU, which may change meanwhile', async ({ skip }) => {
    const reason = missingFor([implementation], 'ping', 'tcpdump');
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, [implementation, implementation]);
    expect((await ping(a.host, INNER.b4, { count: 1 })).received).toBe(1);
    const capture = await Capture.start(a.host, 'va', `udp and src ${OUTER.a4}`);
    for (const mtu of [SMALL, 1290, 1429]) {
      for (const device of [a, b]) await device.setMtu(mtu);
      for (const length of [mtu, mtu - 1, mtu - 12, mtu - 40, 1000, 85]) {
        const seen = capture.lengths.length;
        expect((await ping(a.host, INNER.b4, { count: 1, size: length - 28 })).received).toBe(1);
        await until('a datagram', () => capture.lengths.length > seen);
        const padded = Math.min(mtu, Math.ceil(length / 16) * 16);
        // A handshake may be renewed in between.
        expect(capture.lengths.slice(seen)).toContain(padded + OVERHEAD);
      }
      expect((await ping(b.host, INNER.a6, { count: 3, size: mtu - 48 })).received).toBe(3);
    }
    await capture.stop();
    expect(Math.max(...capture.lengths)).toBe(1429 + OVERHEAD);
  });
});
