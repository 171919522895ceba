import { formatAddress } from '@sealane/tunnel';
import type { Endpoint } from '@sealane/protocol';
import { runProgram } from './program.ts';

/** Outer IPv6 and UDP headers, and those of the protocol around a packet: 40 + 8 + 32. */
const OVERHEAD = 80;
const ETHERNET = 1_500;
/** IPv6 does not work below (RFC 8200 section 5). */
const SMALLEST = 1_280;

/** The MTU that fits the narrowest way to any of the endpoints, else the default route's, as wg-quick reckons. */
export async function mtuFor(endpoints: readonly Endpoint[]): Promise<number> {
  const known: number[] = [];
  for (const { address } of endpoints) {
    const mtu = await mtuOfRoute(['route', 'get', formatAddress(address)]);
    if (mtu !== undefined) known.push(mtu);
  }
  const outer = known.length > 0 ? Math.min(...known) : ((await mtuOfRoute(['route', 'show', 'default'])) ?? ETHERNET);
  // Loopback offers 64 KiB, which nothing beyond it carries.
  return Math.max(SMALLEST, Math.min(outer, 9_000) - OVERHEAD);
}

async function mtuOfRoute(words: readonly string[]): Promise<number | undefined> {
  const route = await output(words);
  const own = /\bmtu (\d+)/.exec(route)?.[1];
  if (own !== undefined) return Number(own);
  const link = /\bdev (\S+)/.exec(route)?.[1];
  const mtu = link === undefined ? undefined : /\bmtu (\d+)/.exec(await output(['link', 'show', 'dev', link]))?.[1];
  return mtu === undefined ? undefined : Number(mtu);
}

async function output(words: readonly string[]): Promise<string> {
  const { status, stdout } = await runProgram('ip', words);
  return status === 0 ? stdout : '';
}
