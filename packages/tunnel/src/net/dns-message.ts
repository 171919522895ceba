/** DNS messages (RFC 1035 section 4): address queries out, hostile answers in. */

export const TYPE_A = 1;
export const TYPE_AAAA = 28;
export type AddressType = typeof TYPE_A | typeof TYPE_AAAA;

export type DnsAnswer =
  | { readonly kind: 'addresses'; readonly addresses: readonly Uint8Array[]; readonly ttlSeconds: number }
  /** The name stands for another one whose address is not in the answer. */
  | { readonly kind: 'alias'; readonly name: string }
  | { readonly kind: 'no-name' }
  | { readonly kind: 'no-data' }
  /** Ask again over TCP. */
  | { readonly kind: 'truncated' }
  /** The server could not or would not say. */
  | { readonly kind: 'failed' };

const HEADER_LENGTH = 12;
const CLASS_IN = 1;
const TYPE_CNAME = 5;
const MAX_NAME_LENGTH = 255;
const MAX_ALIASES = 16;

/** The query for one address type with recursion desired, or undefined when `name` is no name that DNS can carry. */
export function encodeQuery(id: number, name: string, type: AddressType): Uint8Array | undefined {
  const labels = name.replace(/\.$/, '').split('.');
  const length = labels.reduce((sum, label) => sum + 1 + label.length, 1);
  if (length > MAX_NAME_LENGTH || labels.some((label) => !/^[\u0021-\u007e]{1,63}$/.test(label))) return undefined;
  const bytes = new Uint8Array(HEADER_LENGTH + length + 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id);
  view.setUint16(2, 0x0100);
  view.setUint16(4, 1);
  let at = HEADER_LENGTH;
  for (const label of labels) {
    bytes[at++] = label.length;
    for (let i = 0; i < label.length; i++) bytes[at++] = label.charCodeAt(i);
  }
  view.setUint16(at + 1, type);
  view.setUint16(at + 3, CLASS_IN);
  return bytes;
}

/** What a response says to the query; undefined when it is malformed or answers another one. */
export function parseAnswer(bytes: Uint8Array, query: Uint8Array): DnsAnswer | undefined {
  if (bytes.length < HEADER_LENGTH) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const queryView = new DataView(query.buffer, query.byteOffset, query.byteLength);
  const flags = view.getUint16(2);
  const isResponse = (flags & 0x8000) !== 0 && (flags & 0x7800) === 0;
  if (!isResponse || view.getUint16(0) !== queryView.getUint16(0) || view.getUint16(4) !== 1) return undefined;
  const asked = readName(query, HEADER_LENGTH);
  const question = readName(bytes, HEADER_LENGTH);
  if (asked === undefined || question === undefined || question.end + 4 > bytes.length) return undefined;
  const type = queryView.getUint16(asked.end);
  if (question.name !== asked.name || view.getUint16(question.end) !== type) return undefined;
  if (view.getUint16(question.end + 2) !== CLASS_IN) return undefined;
  if ((flags & 0x0200) !== 0) return { kind: 'truncated' };
  const code = flags & 0xf;
  if (code === 3) return { kind: 'no-name' };
  if (code !== 0) return { kind: 'failed' };
  const records = readRecords(bytes, view, question.end + 4, view.getUint16(6), type);
  return records === undefined ? undefined : follow(records, asked.name);
}

interface Records {
  readonly aliases: ReadonlyMap<string, string>;
  readonly addresses: readonly { readonly name: string; readonly address: Uint8Array; readonly ttl: number }[];
}

function readRecords(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  count: number,
  wanted: number,
): Records | undefined {
  const aliases = new Map<string, string>();
  const addresses: { name: string; address: Uint8Array; ttl: number }[] = [];
  let at = start;
  for (let i = 0; i < count; i++) {
    const owner = readName(bytes, at);
    if (owner === undefined || owner.end + 10 > bytes.length) return undefined;
    const type = view.getUint16(owner.end);
    const isInternet = view.getUint16(owner.end + 2) === CLASS_IN;
    const ttl = view.getInt32(owner.end + 4);
    const dataLength = view.getUint16(owner.end + 8);
    const data = owner.end + 10;
    at = data + dataLength;
    if (at > bytes.length) return undefined;
    if (!isInternet) continue;
    if (type === TYPE_CNAME) {
      const alias = readName(bytes, data);
      if (alias === undefined || alias.end !== at) return undefined;
      aliases.set(owner.name, alias.name);
    } else if (type === wanted) {
      if (dataLength !== (wanted === TYPE_A ? 4 : 16)) return undefined;
      addresses.push({ name: owner.name, address: bytes.slice(data, at), ttl: Math.max(0, ttl) });
    }
  }
  return { aliases, addresses };
}

function follow({ aliases, addresses }: Records, asked: string): DnsAnswer {
  let name = asked;
  for (let i = 0; i < MAX_ALIASES; i++) {
    const found = addresses.filter((record) => record.name === name);
    if (found.length > 0) {
      return {
        kind: 'addresses',
        addresses: found.map(({ address }) => address),
        ttlSeconds: Math.min(...found.map(({ ttl }) => ttl)),
      };
    }
    const alias = aliases.get(name);
    if (alias === undefined) return name === asked ? { kind: 'no-data' } : { kind: 'alias', name };
    name = alias;
  }
  return { kind: 'failed' };
}

/** A name in lower case and where it ends; compression pointers only lead backwards, so that reading ends. */
function readName(bytes: Uint8Array, start: number): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  let length = 0;
  let at = start;
  let end = -1;
  let limit = start;
  for (;;) {
    const size = bytes[at];
    if (size === undefined) return undefined;
    if ((size & 0xc0) === 0xc0) {
      const low = bytes[at + 1];
      if (low === undefined) return undefined;
      if (end < 0) end = at + 2;
      at = ((size & 0x3f) << 8) | low;
      if (at >= limit) return undefined;
      limit = at;
      continue;
    }
    if (size > 63) return undefined;
    at++;
    if (size === 0) break;
    length += size + 1;
    if (length >= MAX_NAME_LENGTH || at + size > bytes.length) return undefined;
    labels.push(String.fromCharCode(...bytes.subarray(at, at + size)));
    at += size;
  }
  return { name: labels.join('.').toLowerCase(), end: end < 0 ? at : end };
}
