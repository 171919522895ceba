/** The addresses that a server hands out: plain arithmetic on network blocks, IPv4 and IPv6 alike. */
import type { Prefix } from '@sealane/protocol';
import { formatPrefix, maskPrefix, parsePrefix } from '@sealane/tunnel';

/** One block of the pool with the range of its addresses that hosts may have. */
export interface Network extends Prefix {
  readonly text: string;
  readonly first: bigint;
  readonly last: bigint;
}

const SHORTEST = 8;

/**
 * Parses one block, such as 10.7.0.0/24 or fd07::/64.
 * @throws RangeError saying what is wrong with it.
 */
export function parseNetwork(text: string): Network {
  const prefix = parsePrefix(text);
  if (prefix === undefined || !text.includes('/')) {
    throw new RangeError(`'${text}' is not an address block like 10.7.0.0/24 or fd07::/64`);
  }
  const bits = prefix.address.length * 8;
  const size = 1n << BigInt(bits - prefix.length);
  const start = toNumber(prefix.address);
  if (start % size !== 0n) {
    throw new RangeError(`'${text}' has bits set behind its length: the block is ${formatPrefix(maskPrefix(prefix))}`);
  }
  if (prefix.length < SHORTEST || prefix.length > bits - 2) {
    throw new RangeError(`'${text}' must have a length of ${SHORTEST} to ${bits - 2}`);
  }
  const [top, next] = [prefix.address[0]!, prefix.address[1]!];
  const special = bits === 32 ? top === 0 || top >= 224 : top === 0xff || (top === 0xfe && next >= 0x80 && next < 0xc0);
  if (special || start === 0n) throw new RangeError(`'${text}' is not a block of addresses for hosts`);
  // IPv4 has a broadcast address at the end (RFC 919), IPv6 has none.
  const last = start + size - (bits === 32 ? 2n : 1n);
  return { address: prefix.address, length: prefix.length, text: formatPrefix(prefix), first: start + 1n, last };
}

/** The server's own address: the first host of the block. */
export function serverAddress(network: Network): Uint8Array {
  return toBytes(network.first, network.address.length * 8);
}

/** The lowest host address that is neither the server's nor in `taken`, or undefined when there is none. */
export function nextFree(network: Network, taken: Iterable<Uint8Array>): Uint8Array | undefined {
  const used = new Set<bigint>();
  for (const address of taken) if (address.length === network.address.length) used.add(toNumber(address));
  for (let candidate = network.first + 1n; candidate <= network.last; candidate++) {
    if (!used.has(candidate)) return toBytes(candidate, network.address.length * 8);
  }
  return undefined;
}

/** True when the address is one that the block can give to a peer. */
export function holdsPeer(network: Network, address: Uint8Array): boolean {
  if (address.length !== network.address.length) return false;
  const value = toNumber(address);
  return value > network.first && value <= network.last;
}

function toNumber(address: Uint8Array): bigint {
  let value = 0n;
  for (const byte of address) value = (value << 8n) | BigInt(byte);
  return value;
}

function toBytes(value: bigint, bits: number): Uint8Array {
  const bytes = new Uint8Array(bits / 8);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}
