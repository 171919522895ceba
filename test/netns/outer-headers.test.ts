/** What the headers and marks of outer datagrams say: class of handshakes, congestion both ways (RFC 6040), marks. */
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import { counter, firewall } from '../support/packets.ts';
import { INNER, missingFor, ping, wireguardPair } from '../support/wireguard.ts';
import type { Implementation } from '../support/wireguard.ts';

/** The side under test comes first; it needs system calls that only the Linux lane makes. */
const LINUX_LANE: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['sealane', 'sealane'],
];

/** As ping -Q sets them: DSCP EF and each of the ECN fields. */
const EF = 0xb8;
const ECN = [
  ['not-ect', 0],
  ['ect1', 1],
  ['ect0', 2],
  ['ce', 3],
] as const;

describe.for(LINUX_LANE)('%s, with %s', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft');

  it.for([4, 6] as const)('marks its IPv%i datagrams as RFC 6040 says, and no others', async (outer, { skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations, { outer });
    if (a.lane !== 'linux') skip('needs the Linux lane');
    const ip = outer === 4 ? 'ip' : 'ip6';
    const from = `meta nfproto ipv${outer} iifname vb udp sport 51001`;
    const names = ['handshake', 'classed', 'dscp', ...ECN.map(([name]) => name.replace('-', ''))];
    await firewall(
      b.host,
      `table inet lab {
        ${names.map((name) => `counter ${name} {}`).join('\n')}
        chain in { type filter hook prerouting priority 0
          ${from} @th,64,8 1 counter name handshake
          ${from} @th,64,8 1 ${ip} dscp af41 counter name classed
          ${from} @th,64,8 4 ${ip} dscp != cs0 counter name dscp
          ${ECN.map(([name]) => `${from} @th,64,8 4 udp length > 300 ${ip} ecn ${name} counter name ${name.replace('-', '')}`).join('\n')}
        }
      }`,
    );
    const seen = async (name: string): Promise<number> => (await counter(b.host, name.replace('-', ''))).packets;
    for (const [name, field] of ECN) {
      const extra = ['-Q', String(EF | field)];
      expect((await ping(a.host, INNER.b4, { count: 3, size: 400, extra })).received).toBe(3);
      expect(await seen(name)).toBe(3);
    }
    expect(await seen('dscp')).toBe(0);
    expect(await seen('handshake')).toBeGreaterThanOrEqual(1);
    expect(await seen('classed')).toBe(await seen('handshake'));

    // A router on the way to us marks what it would rather have dropped: the receiver has to hear of it, if it can.
    await firewall(
      a.host,
      `table inet lab {
        ${['ect0', 'ce', 'notect'].map((name) => `counter ${name} {}`).join('\n')}
        chain way { type filter hook prerouting priority -10
          iifname va udp sport 51002 @th,64,8 4 ${ip} ecn set ce
        }
        chain in { type filter hook input priority 0
          iifname ${a.name} icmp type echo-request ip ecn ect0 counter name ect0
          iifname ${a.name} icmp type echo-request ip ecn ce counter name ce
          iifname ${a.name} icmp type echo-request ip ecn not-ect counter name notect
        }
      }`,
    );
    await ping(b.host, INNER.a4, { count: 2, extra: ['-Q', '2'] });
    expect((await counter(a.host, 'ce')).packets).toBe(2);
    expect((await counter(a.host, 'ect0')).packets).toBe(0);
    // RFC 6040, section 4.2: who does not know of congestion marks understands a loss only.
    expect((await ping(b.host, INNER.a4, { count: 2, extra: ['-Q', '0', '-w', '1'] })).received).toBe(0);
    expect((await counter(a.host, 'notect')).packets).toBe(0);

    // Marks are the system's own, for its routes and filters.
    await firewall(
      a.host,
      `delete table inet lab
      table inet lab {
        counter marked {}
        counter unmarked {}
        chain out { type filter hook output priority 0
          meta nfproto ipv${outer} oifname va udp sport 51001 meta mark 51 counter name marked
          meta nfproto ipv${outer} oifname va udp sport 51001 meta mark != 51 counter name unmarked
        }
      }`,
    );
    await a.wg('set', a.name, 'fwmark', '51');
    await a.wg('set', a.name, 'peer', bKeys.publicKey, 'persistent-keepalive', '1');
    await until('marked datagrams', async () => (await counter(a.host, 'marked')).packets > 0);
    const before = (await counter(a.host, 'unmarked')).packets;
    expect((await ping(a.host, INNER.b4, { count: 3 })).received).toBe(3);
    expect((await counter(a.host, 'unmarked')).packets).toBe(before);
    await a.wg('set', a.name, 'fwmark', '0');
    await until('unmarked datagrams', async () => (await counter(a.host, 'unmarked')).packets > before);
  });
});
