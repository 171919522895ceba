/** Where outer datagrams come from and which link they take: addresses that vanish, several addresses and links, marks. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { iperf, iperfServer } from '../support/iperf.ts';
import { Lab, until } from '../support/lab.ts';
import { counter, firewall } from '../support/packets.ts';
import { routedPair } from '../support/routed.ts';
import { INNER, missingFor, OUTER, ping, wireguardPair } from '../support/wireguard.ts';
import type { Implementation } from '../support/wireguard.ts';

/** The side under test comes first; sources and marks need system calls that only the Linux lane makes. */
const LINUX_LANE: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['sealane', 'sealane'],
];
const NEEDS_LINUX_LANE = 'needs the Linux lane';

describe.for(LINUX_LANE)('%s, with %s', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft');

  it('loses at most one ping when its source address vanishes', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations);
    if (a.lane !== 'linux') skip(NEEDS_LINUX_LANE);
    await a.host.must('sysctl', ['-q', '-w', 'net.ipv4.conf.all.promote_secondaries=1']);
    for (const [endpoint, prefix, former, next, shown] of [
      [`${OUTER.b4}:51002`, '/24', OUTER.a4, '192.168.77.11', '192.168.77.11:51001'],
      [`[${OUTER.b6}]:51002`, '/64', OUTER.a6, 'fd99::11', '[fd99::11]:51001'],
    ] as const) {
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', endpoint);
      // Answers make the former address the one that the peer spoke to.
      expect((await ping(a.host, INNER.b4, { count: 5 })).received).toBe(5);
      expect(await b.endpoint()).toContain(former);
      const traffic = ping(a.host, INNER.b4, { count: 30, interval: 0.1 });
      await sleep(1000);
      const flags = next.includes(':') ? ['nodad'] : [];
      await a.host.must('ip', ['addr', 'add', `${next}${prefix}`, 'dev', 'va', ...flags]);
      await a.host.must('ip', ['addr', 'del', `${former}${prefix}`, 'dev', 'va']);
      expect((await traffic).received).toBeGreaterThanOrEqual(29);
      expect(await b.endpoint()).toBe(shown);
    }
  });

  it('answers from the address that was spoken to, whichever interface has it', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a: served, b: peer, aKeys } = await wireguardPair(lab, implementations);
    if (served.lane !== 'linux') skip(NEEDS_LINUX_LANE);
    await served.host.must('ip', ['addr', 'add', '192.168.77.12/24', 'dev', 'va']);
    await served.host.must('ip', ['addr', 'add', 'fd99::12/64', 'dev', 'va', 'nodad']);
    await served.host.must('ip', ['link', 'add', 'aside', 'type', 'bridge']);
    await served.host.must('ip', ['addr', 'add', '10.50.0.1/24', 'dev', 'aside']);
    await served.host.must('ip', ['addr', 'add', 'fd50::1/64', 'dev', 'aside', 'nodad']);
    await served.host.must('ip', ['link', 'set', 'up', 'dev', 'aside']);
    await peer.host.must('ip', ['route', 'add', '10.50.0.0/24', 'via', OUTER.a4]);
    await peer.host.must('ip', ['route', 'add', 'fd50::/64', 'via', OUTER.a6]);
    for (const address of ['192.168.77.12', OUTER.a4, '10.50.0.1', 'fd99::12', OUTER.a6, 'fd50::1']) {
      const family = address.includes(':') ? 'ip6' : 'ip';
      await firewall(
        peer.host,
        `table inet lab
        delete table inet lab
        table inet lab {
          counter other {}
          chain in { type filter hook input priority 0
            iifname vb udp sport 51001 ${family} saddr != ${address} counter name other
          }
        }`,
      );
      const endpoint = address.includes(':') ? `[${address}]:51001` : `${address}:51001`;
      await peer.wg('set', peer.name, 'peer', aKeys.publicKey, 'endpoint', endpoint);
      expect((await ping(peer.host, INNER.a4, { count: 3 })).received, address).toBe(3);
      expect((await ping(served.host, INNER.b6, { count: 3 })).received, address).toBe(3);
      expect(await peer.endpoint()).toBe(endpoint);
      expect((await counter(peer.host, 'other')).packets).toBe(0);
    }
  });

  it('answers from there also where the route refuses trains of datagrams', async ({ skip }) => {
    const lacking = missingFor(implementations, 'iperf3', 'nft');
    if (lacking !== undefined) skip(lacking);
    await using lab = await Lab.open();
    const { a: served, b: peer, aKeys } = await wireguardPair(lab, implementations);
    if (served.lane !== 'linux') skip(NEEDS_LINUX_LANE);
    await served.host.must('ip', ['addr', 'add', '192.168.77.12/24', 'dev', 'va']);
    await served.host.must('ip', ['route', 'add', `${OUTER.b4}/32`, 'dev', 'va', 'mtu', '1300']);
    await firewall(
      peer.host,
      `table inet lab {
        counter other {}
        chain in { type filter hook input priority 0
          iifname vb udp sport 51001 ip saddr != 192.168.77.12 counter name other
        }
      }`,
    );
    await peer.wg('set', peer.name, 'peer', aKeys.publicKey, 'endpoint', '192.168.77.12:51001');
    expect((await ping(peer.host, INNER.a4)).received).toBe(5);
    await iperfServer(peer.host);
    const report = await iperf(served.host, INNER.b4, ['-n', '4M']);
    expect(report.end.sum_received.bytes).toBeGreaterThan(1e6);
    expect((await counter(peer.host, 'other')).packets).toBe(0);
    expect(await peer.endpoint()).toBe('192.168.77.12:51001');
  });

  it('loses at most one ping when another link takes over', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations);
    if (a.lane !== 'linux') skip(NEEDS_LINUX_LANE);
    await lab.join(a.host, 'va2', ['192.168.78.1/24', 'fd98::1/64'], b.host, 'vb2', ['192.168.78.2/24', 'fd98::2/64']);
    for (const [service, length, first, second] of [
      ['10.60.0.1', '32', OUTER.b4, '192.168.78.2'],
      ['fd60::1', '128', OUTER.b6, 'fd98::2'],
    ] as const) {
      const six = service.includes(':');
      await b.host.must('ip', ['addr', 'add', `${service}/${length}`, 'dev', 'lo', ...(six ? ['nodad'] : [])]);
      await a.host.must('ip', ['route', 'add', `${service}/${length}`, 'via', first, 'metric', '10']);
      await a.host.must('ip', ['route', 'add', `${service}/${length}`, 'via', second, 'metric', '20']);
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', six ? `[${service}]:51002` : `${service}:51002`);
      expect((await ping(a.host, INNER.b4, { count: 5 })).received).toBe(5);
      // A better route over the second link, then none over it again; each link stays up.
      for (const change of [
        ['route', 'add', `${service}/${length}`, 'via', second, 'metric', '5'],
        ['route', 'del', `${service}/${length}`, 'via', second, 'metric', '5'],
      ]) {
        const traffic = ping(a.host, INNER.b4, { count: 20, interval: 0.1 });
        await sleep(700);
        await a.host.must('ip', change);
        expect((await traffic).received).toBeGreaterThanOrEqual(19);
      }
      // The link with the better route goes down, with its address and its routes.
      const traffic = ping(a.host, INNER.b4, { count: 30, interval: 0.1 });
      await sleep(1000);
      await a.host.must('ip', ['link', 'set', 'down', 'dev', 'va']);
      expect((await traffic).received).toBeGreaterThanOrEqual(29);
      await a.host.must('ip', ['link', 'set', 'up', 'dev', 'va']);
      await a.host.run('ip', ['addr', 'add', `${OUTER.a6}/64`, 'dev', 'va', 'nodad']);
    }
  });

  it('marks its datagrams, live, so that policy routes keep them out of the tunnel', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { client, server, device } = await routedPair(lab, implementations);
    if (device.lane !== 'linux') skip(NEEDS_LINUX_LANE);
    // The whole client but the tunnel itself goes through the tunnel.
    for (const family of ['-4', '-6']) {
      await client.must('ip', [family, 'route', 'add', 'default', 'dev', device.name, 'table', '51']);
      await client.must('ip', [family, 'rule', 'add', 'not', 'fwmark', '51', 'table', '51']);
      await client.must('ip', [family, 'rule', 'add', 'table', 'main', 'suppress_prefixlength', '0']);
    }
    await firewall(
      client,
      `table inet lab {
        counter clear {}
        counter marked {}
        counter link2 {}
        chain out { type filter hook output priority 0
          oifname vc ip daddr 10.99.0.1 counter name clear
          oifname vc ip daddr 192.168.2.2 meta mark 51 counter name marked
          oifname vc2 ip daddr 192.168.2.2 counter name link2
        }
      }`,
    );
    expect((await ping(client, '10.99.0.1', { count: 2, extra: ['-w', '1'] })).received).toBe(0);
    await device.wg('set', device.name, 'fwmark', '51');
    expect(await device.wg('show', device.name, 'fwmark')).toBe('0x33\n');
    const carries = (how: string): Promise<void> =>
      until(how, async () => (await ping(client, '10.99.0.1', { count: 5, interval: 0.1 })).received === 5, 45_000);
    // The handshakes before went nowhere: the next one may be five seconds away.
    await carries('the tunnel to come up');
    expect((await counter(client, 'marked')).packets).toBeGreaterThanOrEqual(6);

    // Another mark takes another route at once: over the second link.
    await lab.join(client, 'vc2', ['192.168.3.1/24'], server, 'vs2', ['192.168.3.2/24']);
    await client.must('ip', ['route', 'add', 'default', 'via', '192.168.3.2', 'table', '52']);
    await client.must('ip', ['rule', 'add', 'fwmark', '52', 'table', '52']);
    await device.wg('set', device.name, 'fwmark', '52');
    await carries('the second link to carry');
    expect((await counter(client, 'link2')).packets).toBeGreaterThanOrEqual(5);
    await device.wg('set', device.name, 'fwmark', 'off');
    expect((await ping(client, '10.99.0.1', { count: 2, extra: ['-w', '1'] })).received).toBe(0);
    await device.wg('set', device.name, 'fwmark', '51');
    await carries('the first link to carry again');
    expect((await counter(client, 'clear')).packets).toBe(0);
  });
});
