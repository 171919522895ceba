/**
 * Ours against wireguard-go, and against ourselves, as real processes with real TUN interfaces in namespaces:
 *
 *   host a [va 192.168.77.1, fd99::1] ==veth== [vb 192.168.77.2, fd99::2] host b
 *   tunnel a 10.77.0.1, fd77::1                tunnel b 10.77.0.2, fd77::2
 */
import { describe, expect, it } from 'vitest';
import { Lab, missing, until } from '../support/lab.ts';
import type { Host } from '../support/lab.ts';
import type { Implementation } from '../support/wireguard.ts';
import { INNER, keyPair, OUTER, ping, presharedKey, wireguardPair } from '../support/wireguard.ts';

const reason = missing('wireguard-go', 'wg', 'iperf3', 'ping');
const PAIRS: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['wireguard-go', 'sealane'],
  ['sealane', 'sealane'],
];

describe.skipIf(reason !== undefined)(`interoperation (${reason ?? 'all programs are here'})`, () => {
  describe.for(PAIRS)('%s begins, %s answers', (implementations) => {
    it.for([4, 6] as const)('carries IPv4 and IPv6 over IPv%s with a preshared key, counters exact', async (outer) => {
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, implementations, { outer, presharedKey: await presharedKey() });
      expect(await ping(a.host, INNER.b4, { count: 10 })).toEqual({ sent: 10, received: 10, duplicates: 0 });
      // 148 or 92 for the handshake, 10 x 128 for 84 bytes padded to 96, and 32 for the initiator's keepalive if any.
      const [atA, atB] = [await a.transfer(), await b.transfer()];
      expect(atA.rx).toBe(92 + 10 * 128);
      expect([1428, 1460]).toContain(atA.tx);
      expect(atB).toEqual({ rx: atA.tx, tx: atA.rx });
      expect(await ping(b.host, INNER.a6, { count: 5, size: 1300 })).toEqual({ sent: 5, received: 5, duplicates: 0 });
      expect(await a.latestHandshake()).toBeGreaterThan(0);
    });

    it('moves TCP both ways and UDP at a modest rate', async () => {
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, implementations);
      await ping(a.host, INNER.b4, { count: 1 });
      b.host.start('iperf3', ['-s', '-B', INNER.b4]);
      await until('iperf3 to listen', async () =>
        (await b.host.must('ss', ['-Hltn', 'sport', '=', '5201'])).includes('5201'),
      );
      for (const direction of [[], ['-R']]) {
        const report = await iperf(a.host, ['-n', '64M', ...direction]);
        expect(report.end.sum_received.bytes).toBeGreaterThanOrEqual(60_000_000);
      }
      const udp = await iperf(a.host, ['-u', '-b', '5M', '-t', '3', '-l', '1200']);
      expect(udp.end.sum.packets).toBeGreaterThan(1000);
      // A busy machine may overflow the interface's own queue before any of us sees the packet.
      expect(udp.end.sum.lost_packets).toBeLessThan(udp.end.sum.packets / 100);
    });

    it('follows a peer that roams to another port and address', async () => {
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, implementations);
      await ping(a.host, INNER.b4, { count: 1 });
      expect(await b.endpoint()).toBe(`${OUTER.a4}:51001`);
      await a.wg('set', a.name, 'listen-port', '51777');
      expect((await ping(a.host, INNER.b4, { count: 5 })).received).toBe(5);
      expect(await b.endpoint()).toBe(`${OUTER.a4}:51777`);
      expect((await ping(b.host, INNER.a4, { count: 5 })).received).toBe(5);
      await a.host.must('ip', ['addr', 'del', `${OUTER.a4}/24`, 'dev', 'va']);
      await a.host.must('ip', ['addr', 'add', '192.168.77.11/24', 'dev', 'va']);
      await until(
        'a to be heard from its new address',
        async () => {
          await ping(a.host, INNER.b4, { count: 2, extra: ['-w', '2'] });
          return (await b.endpoint()).includes('192.168.77.11');
        },
        30_000,
      );
      expect((await ping(b.host, INNER.a4, { count: 5 })).received).toBe(5);
    });

    it('refuses a wrong preshared key and a wrong key', async () => {
      await using lab = await Lab.open();
      const { a, b, aKeys, bKeys } = await wireguardPair(lab, implementations, { presharedKey: await presharedKey() });
      const other = await lab.file('other.psk', await presharedKey());
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'preshared-key', other);
      expect((await ping(a.host, INNER.b4, { count: 2, extra: ['-w', '2'] })).received).toBe(0);
      expect(await a.latestHandshake()).toBe(0);
      const stranger = await keyPair();
      const key = await lab.file('stranger.key', stranger.privateKey);
      await a.wg('set', a.name, 'private-key', key);
      expect((await ping(a.host, INNER.b4, { count: 2, extra: ['-w', '2'] })).received).toBe(0);
      expect(await b.latestHandshake()).toBe(0);
      expect((await b.wg('show', b.name, 'peers')).trim()).toBe(aKeys.publicKey);
    });

    it('refuses an inner source that is not the peer’s', async () => {
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, implementations);
      await a.host.must('ip', ['addr', 'add', '10.77.0.66/32', 'dev', a.name]);
      expect((await ping(a.host, INNER.b4, { count: 2 })).received).toBe(2);
      const before = await b.host.must('cat', [`/sys/class/net/${b.name}/statistics/rx_packets`]);
      const forged = await ping(a.host, INNER.b4, { count: 3, extra: ['-I', '10.77.0.66', '-w', '2'] });
      expect(forged.received).toBe(0);
      const after = await b.host.must('cat', [`/sys/class/net/${b.name}/statistics/rx_packets`]);
      expect(after).toBe(before);
    });
  });
});

interface IperfReport {
  readonly end: {
    readonly sum_received: { readonly bytes: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number };
  };
}

async function iperf(host: Host, args: readonly string[]): Promise<IperfReport> {
  return JSON.parse(await host.must('iperf3', ['-J', '-c', INNER.b4, ...args])) as IperfReport;
}
