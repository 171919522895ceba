/** One reader per kind of value: the value, or a `BadValue` that says what is wrong and what to write instead. */
import {
  type CipherSuite,
  MAX_POST_QUANTUM_INTERVAL,
  MIN_POST_QUANTUM_INTERVAL,
  parseKey,
  POST_QUANTUM_INTERVAL,
  type Prefix,
} from '@sealane/protocol';
import { formatEndpoint, parseAddress, parseEndpoint, parsePort, parsePrefix } from '../ip-text.ts';
import type { RouteTables } from './route-tables.ts';

/** A value that its field cannot have; the message has neither file nor field. */
export class BadValue extends Error {
  override readonly name = 'BadValue';
}

/** A key is secret, or may be one pasted into the wrong line: it is never repeated in a message. */
export function readKey(value: string, generator: string): Uint8Array {
  const text = withoutSpace(value);
  const key = parseKey(text);
  if (key !== undefined) return key;
  if (text === '') throw new BadValue(`is empty; put in a key made by '${generator}'`);
  if (text.length !== 44) {
    throw new BadValue(`has ${text.length} characters; a key has 44 characters of base64 ending in '='`);
  }
  throw new BadValue(`is not canonical base64 of 32 bytes; copy the key again or make one by '${generator}'`);
}

export function readNumber(value: string, minimum: number, maximum: number, orElse = ''): number {
  const text = withoutSpace(value);
  const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= minimum && number <= maximum) return number;
  throw new BadValue(`${quote(text)} is no number from ${minimum} to ${maximum}${orElse}`);
}

export function readNumberOrOff(value: string, minimum: number, maximum: number): number {
  return withoutSpace(value).toLowerCase() === 'off' ? 0 : readNumber(value, minimum, maximum, " and not 'off'");
}

export function readMark(value: string): number {
  const text = withoutSpace(value).toLowerCase();
  if (text === 'off') return 0;
  const number = /^(0x[0-9a-f]{1,8}|\d{1,10})$/.test(text) ? Number(text) : Number.NaN;
  if (number <= 0xffff_ffff) return number;
  throw new BadValue(`${quote(text)} is no 32-bit number (51820 or 0xca6c) and not 'off'`);
}

/** A number as ip(8) takes it, octal behind a zero, or a name of `tables`. */
export function readTable(value: string, tables: () => RouteTables): 'auto' | 'off' | number {
  const text = value.toLowerCase();
  if (value === '' || value === 'auto') return 'auto';
  if (value === 'off') return 'off';
  const isNumber = /^(0x[0-9a-f]{1,8}|0[0-7]{1,11}|[1-9]\d{0,9})$/.test(text);
  const number = isNumber ? Number(text.replace(/^0(?=[0-7])/, '0o')) : tables().get(value);
  if (number !== undefined && number >= 1 && number <= 0xffff_ffff) return number;
  // As wg-quick reads it.
  if (text === 'auto' || text === 'off') {
    throw new BadValue(`${quote(value)} would be a routing table of that name; write '${text}' in small letters`);
  }
  throw new BadValue(
    `${quote(value)} is not 'auto', 'off', or a routing table's number or name (/etc/iproute2/rt_tables)`,
  );
}

/** wg-quick's own rule: true or false, nothing else. */
export function readBoolean(value: string): boolean {
  const text = value.toLowerCase();
  if (text !== 'true' && text !== 'false') throw new BadValue(`${quote(value)} is neither true nor false`);
  return text === 'true';
}

/** wg-quick splits at commas and white space and forgives empty entries; ip(8) takes a netmask in place of a length. */
export function readAddresses(value: string): Prefix[] {
  return tokens(value).map((token) => {
    const prefix = parsePrefix(token.replace(/(?<=\/)\d+\.[\d.]+$/, lengthOf));
    if (prefix === undefined)
      throw new BadValue(`${quote(token)} is no address with an optional /length; write 10.0.0.2/32`);
    return prefix;
  });
}

/** The length that an IPv4 netmask stands for; the text itself when it is none. */
function lengthOf(mask: string): string {
  const bits = Array.from(parseAddress(mask) ?? [], (byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1*0*$/.test(bits) && bits !== '' ? String(bits.lastIndexOf('1') + 1) : mask;
}

/** wg removes white space and splits at commas; an empty value is no prefix at all. */
export function readAllowedIps(value: string): Prefix[] {
  const text = withoutSpace(value);
  if (text === '') return [];
  return text.split(',').map((token) => {
    const prefix = parsePrefix(token);
    if (prefix === undefined)
      throw new BadValue(`${quote(token)} is no prefix; write 10.0.0.0/8 or fd00::/64, separated by commas`);
    return prefix;
  });
}

/** wg-quick takes what is digits and dots, or has a colon, as a server and all else as a search domain. */
export function readDns(value: string): { readonly servers: Uint8Array[]; readonly search: string[] } {
  const servers: Uint8Array[] = [];
  const search: string[] = [];
  for (const token of tokens(value)) {
    if (/^[0-9.]+$/.test(token) || token.includes(':')) {
      const address = parseAddress(token);
      if (address === undefined) throw new BadValue(`${quote(token)} is no address of a name server`);
      servers.push(address);
    } else {
      if (!isHostName(token)) throw new BadValue(`${quote(token)} is neither an address nor a search domain`);
      search.push(token);
    }
  }
  return { servers, search };
}

/** Splits a comma list of `host:port`; literals come back canonical, names as written. */
export function readEndpoints(value: string): string[] {
  return withoutSpace(value).split(',').map(readEndpoint);
}

function readEndpoint(text: string): string {
  const colon = text.lastIndexOf(':');
  const bracket = text.lastIndexOf(']');
  if (text === '') throw new BadValue('is empty; write vpn.example.com:51820');
  if (colon <= 0 || colon < bracket) throw new BadValue(`${quote(text)} has no port; write host:51820`);
  if (parsePort(text.slice(colon + 1)) === undefined) {
    throw new BadValue(`the port of ${quote(text)} is no number from 1 to 65535`);
  }
  const host = text.slice(0, colon);
  // wg takes an address without brackets too: what follows the last colon is the port.
  const literal = host.includes(':') && !host.startsWith('[') ? `[${host}]${text.slice(colon)}` : text;
  const endpoint = parseEndpoint(literal);
  if (isScoped(literal)) return literal;
  if (endpoint !== undefined) return formatEndpoint(endpoint);
  if (/[:[\]%]/.test(host)) throw new BadValue(`${quote(text)} has no valid IPv6 address; write [2001:db8::1]:51820`);
  if (/^[\d.]+$/.test(host)) throw new BadValue(`${quote(text)} has no valid IPv4 address; write 192.0.2.1:51820`);
  if (!isHostName(host)) throw new BadValue(`${quote(text)} has no valid host name`);
  return text;
}

/** The interface's name stays: its index is another one tomorrow, and it may not be there yet. */
function isScoped(text: string): boolean {
  const parts = /^\[([^%]+)%[^\s%/\]]{1,15}\]:/.exec(text);
  return parts !== null && parseAddress(parts[1]!)?.length === 16;
}

export function readRekeyInterval(value: string): number {
  return readNumber(value, 10, 120, ' seconds: sessions may be renewed earlier than the protocol does it, never later');
}

export function readCipher(value: string): CipherSuite {
  const text = value.toLowerCase().replaceAll(/[-_\s]/g, '');
  if (text === 'chacha20poly1305' || text === 'aes256gcm') return text;
  throw new BadValue(`${quote(value)} is neither chacha20poly1305 nor aes256gcm`);
}

/** Seconds between exchanges; 0 is off. */
export function readPostQuantum(value: string): number {
  const text = value.toLowerCase();
  if (text === 'no') return 0;
  if (text === 'yes') return POST_QUANTUM_INTERVAL / 1_000;
  const [least, most] = [MIN_POST_QUANTUM_INTERVAL / 1_000, MAX_POST_QUANTUM_INTERVAL / 1_000];
  const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new BadValue(`${quote(value)} is not 'yes', 'no' or the seconds between two exchanges, ${least} to ${most}`);
}

export function readName(value: string): string {
  if (value === '' || value.length > 64) throw new BadValue('has not 1 to 64 characters');
  return value;
}

export function readGateways(value: string): Uint8Array[] {
  const gateways = tokens(value).map((token) => {
    const address = parseAddress(token);
    if (address === undefined) throw new BadValue(`${quote(token)} is no IP address; write 10.0.0.1`);
    return address;
  });
  if (gateways.length === 0) throw new BadValue('is empty; write 10.0.0.1, or remove the line');
  return gateways;
}

/** Text of the file as it may appear in a message: printable, short, in quotes. */
export function quote(text: string): string {
  const printable = text.replaceAll(/[a-z0-9+/]{20,}=?/gi, withoutKey).replaceAll(/[^\x20-\x7e]/g, '?');
  return `'${printable.length > 60 ? `${printable.slice(0, 57)}...` : printable}'`;
}

/** A key, or a large part of one, that was pasted into the wrong line; names of hosts are of one case. */
function withoutKey(run: string): string {
  const isHex = /^[0-9a-f]+$/i.test(run);
  const isBase64 = /[a-z]/.test(run) && /[A-Z]/.test(run);
  return isHex || isBase64 || run.length >= 43 ? '(a key)' : run;
}

export function isHostName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$/i.test(text);
}

function tokens(value: string): string[] {
  return value.split(/[\s,]+/).filter((token) => token !== '');
}

function withoutSpace(text: string): string {
  return text.replaceAll(/\s+/g, '');
}
