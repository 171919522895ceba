import type { Prefix } from '@sealane/protocol';
import { formatPrefix, parsePrefix } from '@sealane/tunnel';
import { ip, type IpCommand } from './ip.ts';

/** Gives an interface its addresses and its MTU and brings it up; all of it goes when the interface goes. */
export function addressCommands(name: string, addresses: readonly Prefix[], mtu: number): readonly IpCommand[] {
  return [
    ...addresses.map((prefix) => ['address', 'add', formatPrefix(prefix), 'dev', name]),
    ['link', 'set', 'mtu', String(mtu), 'up', 'dev', name],
  ];
}

/** Those that an interface has now. */
export async function liveAddresses(name: string): Promise<readonly Prefix[]> {
  const text = await ip(['-o', 'address', 'show', 'dev', name]);
  return [...text.matchAll(/ inet6? (\S+) /g)].flatMap(([, address]) => parsePrefix(address!) ?? []);
}
