import type { Endpoint } from '@sealane/protocol';
import { formatAddress } from '@sealane/tunnel';
import { runProgram } from './program.ts';

/** Outer IP and UDP headers, and those of the protocol around a packet: 20 or 40, 8, 32. */
const OVERHEAD = { 4: 60, 6: 80 } as const;
const ETHERNET = 1_500;
/** What IPv6 (RFC 8200 section 5) and IPv4 (RFC 791) cannot do without. */
const SMALLEST = { 4: 576, 6: 1_280 } as const;
/** Loopback offers 64 KiB, which nothing beyond it carries. */
const LARGEST = 9_000;

export interface Mtu {
  /** What wg-quick would set: room for IPv6 around the packet, whatever the endpoint is. */
  readonly usual: number;
  /** The most that fits into one datagram to the endpoints as they are. */
  readonly most: number;
}

export interface MtuOptions {
  /** The tunnel's own interface: what leads there is no way to an endpoint. */
  readonly name: string;
  /** Of the outer datagrams, which policy rules ask for. */
  readonly mark: number;
  /** IPv6 packets are carried. */
  readonly ipv6: boolean;
}

/** The MTU that fits the narrowest way to any of the endpoints, else the default route's. */
export async function mtuFor(endpoints: readonly Endpoint[], { name, mark, ipv6 }: MtuOptions): Promise<Mtu> {
  const marked = mark === 0 ? '' : ` mark ${mark}`;
  const addresses = new Set(endpoints.map(({ address }) => formatAddress(address)));
  const [routes, defaults, links] = await Promise.all([
    output(
      ['-o', '-force', '-batch', '-'],
      [...addresses].map((address) => `route get ${address}${marked}\n`).join(''),
    ),
    output(['-o', 'route', 'show', 'default']),
    output(['-o', 'link', 'show']),
  ]);
  const mtuOf = new Map(
    [...links.matchAll(/^\d+: ([^\s:@]+).*?\bmtu (\d+)/gm)].map(([, link, mtu]) => [link, Number(mtu)]),
  );
  const ways = (text: string): readonly { readonly mtu: number; readonly overhead: number }[] =>
    text.split('\n').flatMap((route) => {
      const link = /\bdev (\S+)/.exec(route)?.[1];
      const mtu = Number(/\bmtu (?:lock )?(\d+)/.exec(route)?.[1] ?? mtuOf.get(link));
      if (link === name || !(mtu > 0)) return [];
      const isIpv6 = /^(?:[a-z]+ )?[\da-f]*:/.test(route);
      return [{ mtu: Math.min(mtu, LARGEST), overhead: OVERHEAD[isIpv6 ? 6 : 4] }];
    });
  const known = [ways(routes), ways(defaults), [{ mtu: ETHERNET, overhead: OVERHEAD[6] }]].find(
    (found) => found.length > 0,
  )!;
  const atLeast = SMALLEST[ipv6 ? 6 : 4];
  return {
    usual: Math.max(atLeast, Math.min(...known.map(({ mtu }) => mtu)) - OVERHEAD[6]),
    most: Math.max(atLeast, Math.min(...known.map(({ mtu, overhead }) => mtu - overhead))),
  };
}

/** What ip(8) prints, also when one of the commands fails. */
async function output(words: readonly string[], input = ''): Promise<string> {
  return (await runProgram('ip', words, input)).stdout;
}
