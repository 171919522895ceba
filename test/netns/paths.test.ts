/** Tunnels whose ways change or lead through one another: NAT, roaming, tunnels in tunnels, routing loops. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import { firewall } from '../support/packets.ts';
import { routedPair } from '../support/routed.ts';
import {
  INNER,
  keyPair,
  missingFor,
  OUTER,
  PAIRS,
  ping,
  WireguardDevice,
  wireguardPair,
} from '../support/wireguard.ts';
import type { Implementation } from '../support/wireguard.ts';

/** SEALANE_MOVES=120 is the long run: a move every 5 s for 10 minutes. */
const MOVES = Number(process.env['SEALANE_MOVES'] ?? 4);
/** Between two moves, 10 a second. */
const PINGS = MOVES < 100 ? 10 : 50;

const OURS: readonly Implementation[] = ['sealane', 'sealane portable'];

describe.concurrent.for(PAIRS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft');

  it('stays within reach behind a NAT that forgets after 2 s, by persistent keepalives', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { client, server, device, serverDevice, router, serverKeys } = await routedPair(lab, implementations);
    const timeouts = ['nf_conntrack_udp_timeout', 'nf_conntrack_udp_timeout_stream'];
    await firewall(
      router,
      `table ip nat {
        chain out { type nat hook postrouting priority 100
          oifname rs masquerade
        }
      }`,
    );
    for (const name of timeouts) {
      const set = await router.run('sysctl', ['-q', '-w', `net.netfilter.${name}=2`]);
      if (set.code !== 0) skip(`needs net.netfilter.${name}`);
    }
    expect((await ping(client, '10.77.0.2', { count: 2 })).received).toBe(2);
    expect(await serverDevice.endpoint()).toContain('192.168.2.1:');
    // Idle, it is lost: nobody outside knows the way in.
    await sleep(3000);
    expect((await ping(server, '10.77.0.1', { count: 1, extra: ['-w', '1'] })).received).toBe(0);
    await device.wg('set', device.name, 'peer', serverKeys.publicKey, 'persistent-keepalive', '1');
    await sleep(3000);
    expect((await ping(server, '10.77.0.1', { count: 5, interval: 0.2 })).received).toBe(5);
  });

  it.for([4, 6] as const)(
    'roams over IPv%i with the loss of at most one ping a move',
    { timeout: 60_000 + MOVES * 20_000 },
    async (outer, { skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, implementations, { outer });
      await a.host.must('sysctl', ['-q', '-w', 'net.ipv4.conf.all.promote_secondaries=1']);
      const [inner, length, flags] = outer === 4 ? [INNER.b4, 24, []] : [INNER.b6, 64, ['nodad']];
      const written = (host: string, port: number): string => (outer === 4 ? `${host}:${port}` : `[${host}]:${port}`);
      expect((await ping(a.host, inner, { count: 2 })).received).toBe(2);
      let address: string = outer === 4 ? OUTER.a4 : OUTER.a6;
      let port = 51_001;
      for (let move = 1; move <= MOVES; move++) {
        const traffic = ping(a.host, inner, { count: PINGS, interval: 0.1 });
        await sleep(PINGS * 50);
        // wireguard-go of some versions is dark for 15 s after the loss of its address.
        if (move % 2 === 0 && implementations[0] !== 'wireguard-go') {
          const next = outer === 4 ? `192.168.77.${20 + move}` : `fd99::${20 + move}`;
          await a.host.must('ip', ['addr', 'add', `${next}/${length}`, 'dev', 'va', ...flags]);
          await a.host.must('ip', ['addr', 'del', `${address}/${length}`, 'dev', 'va']);
          address = next;
        } else {
          port = 51_100 + move;
          await a.wg('set', a.name, 'listen-port', String(port));
        }
        expect((await traffic).received, `move ${move}`).toBeGreaterThanOrEqual(PINGS - 1);
        expect(await b.endpoint()).toBe(written(address, port));
      }
      expect((await ping(b.host, INNER.a6, { count: 3 })).received).toBe(3);

      // A packet that is refused for its inner source is authentic all the same: its sender is there.
      await a.wg('set', a.name, 'listen-port', '51300');
      await a.host.must('ip', ['addr', 'add', '10.77.0.66/32', 'dev', a.name]);
      const refused = await ping(a.host, INNER.b4, { count: 3, extra: ['-I', '10.77.0.66', '-w', '1'] });
      expect(refused.received).toBe(0);
      expect(await b.endpoint()).toBe(written(address, 51_300));
    },
  );

  it('carries a tunnel in a tunnel', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, implementations);
    const [keysA, keysB] = [await keyPair(), await keyPair()];
    const mtu = 1340;
    await WireguardDevice.start(lab, b.host, implementations[1], 'b2', {
      keys: keysB,
      port: 51004,
      addresses: ['10.88.0.2/24', 'fd88::2/64'],
      mtu,
      peers: [{ publicKey: keysA.publicKey, allowedIps: ['10.88.0.1/32', 'fd88::1/128'] }],
    });
    await WireguardDevice.start(lab, a.host, implementations[0], 'a2', {
      keys: keysA,
      port: 51003,
      addresses: ['10.88.0.1/24', 'fd88::1/64'],
      mtu,
      peers: [
        { publicKey: keysB.publicKey, endpoint: `[${INNER.b6}]:51004`, allowedIps: ['10.88.0.2/32', 'fd88::2/128'] },
      ],
    });
    const before = await a.transfer();
    expect((await ping(a.host, '10.88.0.2', { count: 5, size: mtu - 28 })).received).toBe(5);
    expect((await ping(b.host, 'fd88::1', { count: 5, size: mtu - 48 })).received).toBe(5);
    expect((await a.transfer()).tx).toBeGreaterThan(before.tx + 10 * mtu);
  });
});

describe.for(OURS)('%s', (implementation) => {
  it('ends a routing loop of its own datagrams', async ({ skip }) => {
    const reason = missingFor([implementation], 'ping', 'nft');
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, bKeys } = await wireguardPair(lab, [implementation, implementation]);
    expect((await ping(a.host, INNER.b4, { count: 1 })).received).toBe(1);
    expect((await ping(a.host, INNER.b6, { count: 1 })).received).toBe(1);
    for (const [inner, endpoint] of [
      [INNER.b4, `${INNER.b4}:51002`],
      [INNER.b6, `[${INNER.b6}]:51002`],
    ] as const) {
      const carried = async (): Promise<number> => {
        const folder = `/sys/class/net/${a.name}/statistics`;
        const bytes = await a.host.must('cat', [`${folder}/tx_bytes`, `${folder}/rx_bytes`]);
        return (await a.transfer()).tx + bytes.split('\n').reduce((sum, line) => sum + Number(line), 0);
      };
      const before = await carried();
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', endpoint);
      expect((await ping(a.host, inner, { count: 1, size: 1372, extra: ['-W', '1'] })).received).toBe(0);
      await sleep(1000);
      expect((await carried()) - before).toBeLessThan(70_000);
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', `${OUTER.b4}:51002`);
      await until('the tunnel to work again', async () => (await ping(a.host, inner, { count: 1 })).received === 1);
    }
  });
});
