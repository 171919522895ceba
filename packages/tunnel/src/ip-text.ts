/**
 * Text <-> bytes for addresses, prefixes and endpoints. Reading is strict (RFC 4291 section 2.2 for IPv6, dotted
 * decimal without leading zeros for IPv4) and answers undefined for anything else; writing is canonical (RFC 5952).
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Endpoint, Prefix } from '@sealane/protocol';
import { Address4, Address6 } from 'ip-address';

/** Reads an IPv4 or IPv6 address without scope: 4 or 16 bytes in network order, or undefined. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (text.includes('/') || text.includes('%')) return undefined;
  try {
    if (!text.includes(':')) return Uint8Array.from(new Address4(text).parsedAddress, Number);
    const groups = new Address6(text).parsedAddress;
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 8; i++) {
      const group = Number.parseInt(groups[i]!, 16);
      bytes[2 * i] = group >> 8;
      bytes[2 * i + 1] = group & 0xff;
    }
    return bytes;
  } catch {
    return undefined;
  }
}

/** Writes 4 or 16 bytes as an address; RangeError for another length. IPv4-mapped addresses keep their dotted end. */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  if (address.length !== 16) throw new RangeError(`address: ${address.length} bytes, expected 4 or 16`);
  if (isMapped(address)) return `::ffff:${address.subarray(12).join('.')}`;
  const groups = Array.from({ length: 8 }, (_, i) => (address[2 * i]! << 8) | address[2 * i + 1]!);
  const zeros = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (zeros.length < 2) return hex.join(':');
  return `${hex.slice(0, zeros.start).join(':')}::${hex.slice(zeros.start + zeros.length).join(':')}`;
}

/** Reads `address/length`, or an address alone as a prefix of full length; host bits stay as written. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = address.length * 8;
  if (slash < 0) return { address, length: bits };
  const length = parseDecimal(text.slice(slash + 1), bits);
  return length === undefined ? undefined : { address, length };
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** The prefix with its host bits cleared, as routing tables know it. */
export function maskPrefix(prefix: Prefix): Prefix {
  const address = Uint8Array.from(prefix.address);
  const whole = prefix.length >> 3;
  const rest = prefix.length & 7;
  address.fill(0, rest === 0 ? whole : whole + 1);
  if (rest !== 0) address[whole]! &= 0xff << (8 - rest);
  return { address, length: prefix.length };
}

/**
 * Reads the endpoint literals `192.0.2.1:51820` and `[2001:db8::1]:51820`; `[fe80::1%eth0]:51820` names its
 * interface or that interface's index. IPv4-mapped addresses become IPv4. Undefined for names and for port 0.
 */
export function parseEndpoint(text: string): Endpoint | undefined {
  const parts = /^\[([^\]]*)\]:(\d+)$/.exec(text) ?? /^([\d.]+):(\d+)$/.exec(text);
  if (parts === null) return undefined;
  const host = parts[1]!;
  const port = parsePort(parts[2]!);
  const percent = host.indexOf('%');
  const address = parseAddress(percent < 0 ? host : host.slice(0, percent));
  if (address === undefined || port === undefined) return undefined;
  if (text.startsWith('[') !== (address.length === 16)) return undefined;
  if (percent < 0) return { address: isMapped(address) ? address.slice(12) : address, port, scopeId: 0 };
  const scopeId = parseScope(host.slice(percent + 1));
  return scopeId === undefined ? undefined : { address, port, scopeId };
}

/** Writes an endpoint in the form that `parseEndpoint` reads; a scope appears as the interface's index. */
export function formatEndpoint(endpoint: Endpoint): string {
  const host = formatAddress(endpoint.address);
  if (endpoint.address.length === 4) return `${host}:${endpoint.port}`;
  return `[${host}${endpoint.scopeId === 0 ? '' : `%${endpoint.scopeId}`}]:${endpoint.port}`;
}

/** Reads a UDP port that a datagram can be sent to: 1 to 65535. */
export function parsePort(text: string): number | undefined {
  const port = parseDecimal(text, 65_535);
  return port === 0 ? undefined : port;
}

function parseDecimal(text: string, maximum: number): number | undefined {
  if (!/^(0|[1-9]\d{0,9})$/.test(text)) return undefined;
  const value = Number(text);
  return value <= maximum ? value : undefined;
}

function isMapped(address: Uint8Array): boolean {
  return (
    address.length === 16 &&
    address[10] === 0xff &&
    address[11] === 0xff &&
    address.subarray(0, 10).every((byte) => byte === 0)
  );
}

function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (let i = 0; i < groups.length; i++) {
    length = groups[i] === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: i - length + 1, length };
  }
  return best;
}

function parseScope(text: string): number | undefined {
  const index = parseDecimal(text, 0x7fff_ffff);
  if (index !== undefined) return index === 0 ? undefined : index;
  if (!/^[^/\s]{1,15}$/.test(text) || text === '.' || text === '..') return undefined;
  return interfaceIndex(text);
}

/** sysfs knows interfaces that are down; elsewhere only those with a link-local address can be found. */
function interfaceIndex(name: string): number | undefined {
  try {
    return parseDecimal(readFileSync(`/sys/class/net/${name}/ifindex`, 'ascii').trim(), 0x7fff_ffff);
  } catch {
    return networkInterfaces()[name]?.find((entry) => entry.family === 'IPv6' && entry.scopeid > 0)?.scopeid;
  }
}
