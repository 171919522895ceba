/**
 * Reads wg-quick style files by the rules of wg and wg-quick: keys and sections without regard to case, a comment
 * from the first `#`, lists append, of anything else the last line wins. Unlike them it refuses what it does not know.
 */
import { isZeroKey, keyId, type CipherSuite, type Prefix } from '@sealane/protocol';
import { selectCrypto } from '../crypto/select.ts';
import { formatPrefix, maskPrefix } from '../ip-text.ts';
import { ConfigError, problemAt, type ConfigProblem } from './error.ts';
import { EXTENSION_MARK, explainKey, explainSection, fieldNamed, sectionNamed, type Section } from './fields.ts';
import type { HookCommand, InterfaceConfig, PeerConfig, TunnelConfig } from './model.ts';
import { KERNEL_TABLES, type RouteTables } from './route-tables.ts';
import {
  BadValue,
  quote,
  readAddresses,
  readAllowedIps,
  readBoolean,
  readCipher,
  readDns,
  readEndpoints,
  readGateways,
  readKey,
  readMark,
  readName,
  readNumber,
  readNumberOrOff,
  readPostQuantum,
  readRekeyInterval,
  readTable,
} from './values.ts';

/** The kernel's own for IPv4 (RFC 791). */
export const MIN_MTU = 68;
export const MAX_MTU = 65_535;
/** IPv6 does not work on a link below this (RFC 8200 section 5). */
const MIN_MTU_IPV6 = 1_280;

/**
 * Reads a configuration; throws a ConfigError with every problem found. `file` is only for its messages. `warn` hears of what `wg`
 * takes and what is most likely a mistake; `tables` is asked for a `Table` that is a name.
 */
export function parseConfig(
  text: string,
  file: string,
  warn: (warning: ConfigProblem) => void = () => undefined,
  tables: () => RouteTables = () => KERNEL_TABLES,
): TunnelConfig {
  const draft: Draft = { tables, interfaceLine: 0, interface: newInterface(), peers: [] };
  const problems: ConfigProblem[] = [];
  const report: Report = (line, field, what) => problems.push(problemAt(file, line, field, what));

  let section: Section | 'none' | 'unknown' = 'none';
  const lines = text.replace(/^\uFEFF/, '').split('\n');
  for (let i = 0; i < lines.length; i++) {
    const statement = readLine(lines[i]!);
    if (statement === undefined) continue;
    const line = i + 1;
    if (statement.kind === 'section') {
      section = sectionNamed(statement.header) ?? 'unknown';
      if (section === 'Interface') draft.interfaceLine ||= line;
      if (section === 'Peer') draft.peers.push(newPeer(line));
      if (section === 'unknown') report(line, shownKey(`[${statement.header}]`), explainSection(statement.header));
    } else if (statement.kind === 'garbage') {
      report(line, '', statement.what);
    } else if (section === 'none') {
      report(line, shownKey(statement.key), 'stands before the first section; begin the file with [Interface]');
    } else if (section !== 'unknown') {
      assign(draft, section, statement, line, report);
    }
  }
  // A misspelt key also makes the right one missing: what stands in a line explains more than what does not.
  const inLines = problems.length;
  if (draft.interfaceLine > 0) checkInterface(draft, report);
  else if (problems.length === 0) report(0, '[Interface]', 'is missing; begin the file with this section');
  checkPeers(draft, report);
  if (problems.length > 0)
    throw new ConfigError([...problems.slice(0, inLines), ...problems.slice(inLines).toSorted(byLine)]);
  return finish(
    draft,
    mergePeers(draft, (line, field, what) => warn(problemAt(file, line, field, what))),
  );
}

type Report = (line: number, field: string, what: string) => void;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface InterfaceDraft extends Mutable<Omit<InterfaceConfig, 'privateKey' | 'addresses' | 'dns'>> {
  privateKey: Uint8Array | undefined;
  privateKeyGiven: boolean;
  addresses: { readonly prefix: Prefix; readonly line: number }[];
  dns: { servers: Uint8Array[]; search: string[] };
  mtuLine: number;
  preUp: HookCommand[];
  postUp: HookCommand[];
  preDown: HookCommand[];
  postDown: HookCommand[];
}

interface PeerDraft {
  readonly line: number;
  publicKey: Uint8Array | undefined;
  publicKeyLine: number;
  presharedKey?: Uint8Array;
  readonly allowedIps: { readonly prefix: Prefix; readonly line: number }[];
  endpoints: string[];
  readonly furtherEndpoints: string[];
  persistentKeepalive?: number;
  rekeyInterval?: number;
  cipher?: CipherSuite;
  postQuantum?: number;
  name?: string;
  gateways?: readonly Uint8Array[];
}

interface Draft {
  readonly tables: () => RouteTables;
  interfaceLine: number;
  readonly interface: InterfaceDraft;
  readonly peers: PeerDraft[];
}

type Statement =
  | { readonly kind: 'section'; readonly header: string }
  | { readonly kind: 'pair'; readonly key: string; readonly value: string; readonly marked: boolean }
  | { readonly kind: 'garbage'; readonly what: string };

function readLine(raw: string): Statement | undefined {
  const line = raw.trim();
  const marked = /^#@\s*[a-z]+\s*=/i.test(line);
  const content = (marked ? line.slice('#@'.length) : line).split('#', 1)[0]!.trim();
  if (content === '') return undefined;
  if (content.includes('\uFFFD')) {
    return { kind: 'garbage', what: 'is not text in UTF-8; only comments may be in another encoding' };
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what this refuses
  if (/[\u0000-\u0008\u000b-\u001f\u007f]/.test(content)) {
    return { kind: 'garbage', what: 'holds a control character; write the line again as plain text' };
  }
  if (content.startsWith('[')) {
    const header = /^\[([^\]]*)\]$/.exec(content);
    if (header === null) return { kind: 'garbage', what: 'is no section header; write [Interface] or [Peer]' };
    return { kind: 'section', header: header[1]!.replaceAll(/\s+/g, '') };
  }
  const equals = content.indexOf('=');
  if (equals <= 0) return { kind: 'garbage', what: "is not of the form 'Key = Value'" };
  return { kind: 'pair', key: content.slice(0, equals).trim(), value: content.slice(equals + 1).trim(), marked };
}

/** A line may be a secret without its key: only what looks like the name of a key is repeated. */
function shownKey(key: string): string {
  return /^\[?[A-Za-z0-9_.-]{1,32}\]?$/.test(key) ? key : '';
}

function assign(
  draft: Draft,
  section: Section,
  statement: { readonly key: string; readonly value: string; readonly marked: boolean },
  line: number,
  report: Report,
): void {
  const field = fieldNamed(statement.key);
  if (field === undefined || !field.sections.includes(section)) {
    const shown = shownKey(statement.key);
    report(line, shown, shown === '' ? 'does not begin with a known key' : explainKey(statement.key, section));
    return;
  }
  if (statement.marked && !field.extension) {
    report(line, field.name, `is a key of wg itself; remove the '${EXTENSION_MARK}' before it`);
    return;
  }
  try {
    if (section === 'Interface') assignInterface(draft, field.name, statement.value, line);
    else assignPeer(draft.peers.at(-1)!, field.name, statement.value, line, statement.marked);
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    report(line, field.name, error.message);
  }
}

function assignInterface({ interface: target, tables }: Draft, field: string, value: string, line: number): void {
  switch (field) {
    case 'PrivateKey':
      target.privateKeyGiven = true;
      target.privateKey = readKey(value, 'sealane genkey');
      if (isZeroKey(target.privateKey)) throw new BadValue("is all zeros; put in a key made by 'sealane genkey'");
      return;
    case 'ListenPort':
      target.listenPort = readNumber(value, 0, 65_535);
      return;
    case 'FwMark':
      target.fwmark = readMark(value);
      return;
    case 'Address':
      target.addresses.push(...readAddresses(value).map((prefix) => ({ prefix, line })));
      return;
    case 'DNS': {
      const dns = readDns(value);
      target.dns.servers.push(...dns.servers);
      target.dns.search.push(...dns.search);
      return;
    }
    case 'MTU':
      if (value === '') return void delete target.mtu;
      target.mtu = readNumber(value, MIN_MTU, MAX_MTU);
      target.mtuLine = line;
      return;
    case 'Table':
      target.table = readTable(value, tables);
      return;
    case 'PreUp':
      return addHook(target.preUp, value, line);
    case 'PostUp':
      return addHook(target.postUp, value, line);
    case 'PreDown':
      return addHook(target.preDown, value, line);
    case 'PostDown':
      return addHook(target.postDown, value, line);
    case 'SaveConfig':
      target.saveConfig = readBoolean(value);
      return;
    case 'RekeyInterval':
      target.rekeyInterval = readRekeyInterval(value);
      return;
  }
}

function assignPeer(target: PeerDraft, field: string, value: string, line: number, marked: boolean): void {
  switch (field) {
    case 'PublicKey':
      target.publicKeyLine = line;
      target.publicKey = readKey(value, 'sealane pubkey');
      return;
    case 'PresharedKey':
      target.presharedKey = readKey(value, 'sealane genpsk');
      return;
    case 'AllowedIPs':
      target.allowedIps.push(...readAllowedIps(value).map((prefix) => ({ prefix: maskPrefix(prefix), line })));
      return;
    case 'Endpoint':
      if (marked) target.furtherEndpoints.push(...readEndpoints(value));
      else target.endpoints = readEndpoints(value);
      return;
    case 'PersistentKeepalive':
      target.persistentKeepalive = readNumberOrOff(value, 0, 65_535);
      return;
    case 'RekeyInterval':
      target.rekeyInterval = readRekeyInterval(value);
      return;
    case 'Cipher':
      target.cipher = readCipher(value);
      return;
    case 'PostQuantum':
      target.postQuantum = readPostQuantum(value);
      return;
    case 'Name':
      target.name = readName(value);
      return;
    case 'Gateway':
      target.gateways = [...(target.gateways ?? []), ...readGateways(value)];
      return;
  }
}

function addHook(hooks: HookCommand[], command: string, line: number): void {
  if (command !== '') hooks.push({ command, line });
}

function checkInterface(draft: Draft, report: Report): void {
  const own = draft.interface;
  if (!own.privateKeyGiven && !hookSetsKey(own)) {
    report(draft.interfaceLine, 'PrivateKey', "is missing in [Interface]; make one by 'sealane genkey'");
  }
  const addresses = new Map<string, number>();
  for (const { prefix, line } of own.addresses) {
    const text = formatPrefix({ address: prefix.address, length: prefix.address.length * 8 });
    const before = addresses.get(text);
    if (before !== undefined)
      report(line, 'Address', `${quote(formatPrefix(prefix))} is already given in line ${before}; remove one`);
    else addresses.set(text, line);
  }
  if (
    own.mtu !== undefined &&
    own.mtu < MIN_MTU_IPV6 &&
    own.addresses.some(({ prefix }) => prefix.address.length === 16)
  ) {
    report(own.mtuLine, 'MTU', `${own.mtu} is too small for the IPv6 addresses here; write at least ${MIN_MTU_IPV6}`);
  }
}

function checkPeers(draft: Draft, report: Report): void {
  for (const peer of draft.peers) {
    if (peer.publicKey === undefined && peer.publicKeyLine === 0)
      report(peer.line, 'PublicKey', 'is missing in [Peer]; ask the peer for its public key');
  }
}

/** What `wg` makes of the sections without a word: no peer of the own key, one of each other, one owner of each prefix, the last. */
function mergePeers(draft: Draft, warn: Report): readonly PeerDraft[] {
  const ownKey = draft.interface.privateKey;
  const ownId = ownKey === undefined || isZeroKey(ownKey) ? undefined : keyId(selectCrypto().publicKey(ownKey));
  const peers = new Map<string, PeerDraft>();
  for (const peer of draft.peers) {
    const id = keyId(peer.publicKey!);
    const before = peers.get(id);
    if (id === ownId) {
      warn(peer.publicKeyLine, 'PublicKey', "belongs to this file's own PrivateKey: this peer is left out");
      continue;
    }
    if (before === undefined) {
      peers.set(id, peer);
      continue;
    }
    warn(peer.publicKeyLine, 'PublicKey', `is already the peer of line ${before.line}: what this section says counts`);
    const endpoints = peer.endpoints.length > 0 ? peer.endpoints : before.endpoints;
    const furtherEndpoints = [...before.furtherEndpoints, ...peer.furtherEndpoints];
    peers.set(id, { ...before, ...peer, endpoints, furtherEndpoints });
  }
  const owners = new Map<string, PeerDraft>();
  const allowed = [...peers.values()].flatMap((peer) => peer.allowedIps.map((entry) => ({ ...entry, peer })));
  for (const { prefix, line, peer } of allowed.toSorted((a, b) => a.line - b.line)) {
    const text = formatPrefix(prefix);
    const before = owners.get(text);
    if (before !== undefined && before !== peer)
      warn(line, 'AllowedIPs', `${text} is already given to the peer of line ${before.line}: this peer gets it`);
    owners.set(text, peer);
  }
  return [...peers.values()].map((peer) => ({
    ...peer,
    allowedIps: peer.allowedIps.filter(({ prefix }) => owners.get(formatPrefix(prefix)) === peer),
  }));
}

/** The documented way to keep the key out of the file: `PostUp = wg set %i private-key FILE`. */
function hookSetsKey(own: InterfaceDraft): boolean {
  return [...own.preUp, ...own.postUp].some(({ command }) => /\bprivate-key\b/.test(command));
}

function finish(draft: Draft, peers: readonly PeerDraft[]): TunnelConfig {
  const { privateKey, privateKeyGiven: _given, mtuLine: _line, addresses, ...rest } = draft.interface;
  return {
    interface: {
      ...rest,
      privateKey: privateKey ?? new Uint8Array(32),
      addresses: addresses.map(({ prefix }) => prefix),
    },
    peers: peers.map(finishPeer),
  };
}

function finishPeer(draft: PeerDraft): PeerConfig {
  const { line: _line, publicKeyLine: _keyLine, publicKey, allowedIps, endpoints, furtherEndpoints, ...rest } = draft;
  const prefixes = new Map(allowedIps.map(({ prefix }) => [formatPrefix(prefix), prefix]));
  return {
    ...rest,
    publicKey: publicKey!,
    allowedIps: [...prefixes.values()],
    endpoints: [...new Set([...endpoints, ...furtherEndpoints])],
  };
}

function newInterface(): InterfaceDraft {
  return {
    privateKey: undefined,
    privateKeyGiven: false,
    addresses: [],
    dns: { servers: [], search: [] },
    mtuLine: 0,
    table: 'auto',
    preUp: [],
    postUp: [],
    preDown: [],
    postDown: [],
    saveConfig: false,
  };
}

function newPeer(line: number): PeerDraft {
  return { line, publicKey: undefined, publicKeyLine: 0, allowedIps: [], endpoints: [], furtherEndpoints: [] };
}

function byLine(a: ConfigProblem, b: ConfigProblem): number {
  return a.line - b.line;
}
