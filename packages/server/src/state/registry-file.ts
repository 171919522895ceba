import { CIPHER_SUITES, type CipherSuite, MAX_PEERS, parseKey } from '@sealane/protocol';
import { formatAddress, parseAddress } from '@sealane/tunnel';
import * as v from 'valibot';
import { InputError } from '../errors.ts';
import { replaceFile } from './file.ts';
import { readPrivate, type StateFolder } from './folder.ts';
import { isDnsServer, isEndpoint, isPeerName } from './names.ts';
import { holdsPeer, parseNetwork, type Network } from './pool.ts';

/** What a server knows of itself and of its peers, but for its private key. */
export interface Registry {
  readonly version: 1;
  /** Grows by one with every change. */
  readonly revision: number;
  readonly server: {
    /** Where clients reach the server: host name or address, and port. */
    readonly endpoint: string;
    /** One address block, or one of each family. */
    readonly pool: readonly string[];
    /** Name servers and search domains for the clients. */
    readonly dns: readonly string[];
    readonly mtu: number;
  };
  readonly peers: readonly RegistryPeer[];
}

export interface RegistryPeer {
  readonly name: string;
  /** base64 */
  readonly publicKey: string;
  /** base64; absent when there is none. */
  readonly presharedKey?: string;
  /** Takes part in the post-quantum exchange. */
  readonly postQuantum?: boolean;
  /** What its sessions are sealed with; ChaCha20-Poly1305 when absent. */
  readonly cipher?: CipherSuite;
  /** The peer's addresses in the tunnel, one of each block of the pool at most. */
  readonly addresses: readonly string[];
  /** When it was added (RFC 3339). */
  readonly added: string;
  /** When the server was last told to forget the timestamps of its handshakes. */
  readonly forgotten?: string;
}

const Key = v.pipe(
  v.string(),
  v.check((text) => parseKey(text) !== undefined, 'expected a base64 key of 32 bytes'),
);

/** Addresses are kept in their canonical spelling: equal text is equal address. */
const Address = v.pipe(v.string(), v.check(isCanonicalAddress, 'expected an IPv4 or IPv6 address'));

const Block = v.pipe(v.string(), v.check(isNetwork, 'expected an address block like 10.7.0.0/24 or fd07::/64'));

const Time = v.pipe(v.string(), v.isoTimestamp('expected a time like 2026-01-31T12:00:00.000Z'));

const PeerSchema = v.strictObject({
  name: v.pipe(
    v.string(),
    v.check(isPeerName, 'expected letters, digits, dot, dash and underscore, at most 63 of them'),
  ),
  publicKey: Key,
  presharedKey: v.exactOptional(Key),
  postQuantum: v.exactOptional(v.boolean()),
  cipher: v.exactOptional(v.picklist(CIPHER_SUITES, `expected ${CIPHER_SUITES.join(' or ')}`)),
  addresses: v.pipe(v.array(Address), v.minLength(1, 'expected at least one address')),
  added: Time,
  forgotten: v.exactOptional(Time),
});

const RegistrySchema = v.strictObject({
  version: v.literal(1, 'expected 1: the file was written by another version of sealaned'),
  revision: v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0, 'expected 0 or more')),
  server: v.strictObject({
    endpoint: v.pipe(v.string(), v.check(isEndpoint, 'expected HOST:PORT')),
    pool: v.pipe(v.array(Block), v.minLength(1, 'expected one or two blocks'), v.maxLength(2, 'expected at most two')),
    dns: v.array(v.pipe(v.string(), v.check(isDnsServer, 'expected an address or a domain'))),
    mtu: v.pipe(v.number(), v.integer('expected a whole number'), v.minValue(576), v.maxValue(65_455)),
  }),
  peers: v.pipe(v.array(PeerSchema), v.maxLength(MAX_PEERS, `expected at most ${MAX_PEERS} peers`)),
});

/**
 * Parses a registry file.
 * @throws InputError that names the file and the field.
 */
export function parseRegistry(text: string, file: string): Registry {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, in which there are preshared keys.
    throw new InputError(`${file}: not valid JSON: restore the file from a backup`);
  }
  const result = v.safeParse(RegistrySchema, json, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    throw new InputError(`${file}: ${fieldOf(issue)}: ${problemOf(issue)}`);
  }
  const conflict = conflictOf(result.output);
  if (conflict !== undefined) throw new InputError(`${file}: ${conflict}`);
  return result.output;
}

/** @throws InputError when the file is missing, open to others or not valid. */
export function readRegistry(folder: StateFolder): Registry {
  return parseRegistry(new TextDecoder().decode(readPrivate(folder, folder.registry)), folder.registry);
}

/** Writes the registry with its next revision, which it returns. The caller holds the change lock. */
export function writeRegistry(folder: StateFolder, registry: Registry): Registry {
  const next = { ...registry, revision: registry.revision + 1 };
  replaceFile(folder.registry, `${JSON.stringify(next, undefined, 2)}\n`);
  return next;
}

/** The part of an entry that says what seals the peer's packets: what WireGuard does is not written. */
export function sealingOf(cipher: CipherSuite, postQuantum: boolean): Pick<RegistryPeer, 'cipher' | 'postQuantum'> {
  return {
    ...(cipher === 'chacha20poly1305' ? {} : { cipher }),
    ...(postQuantum ? { postQuantum } : {}),
  };
}

/** The blocks of the pool. */
export function networksOf(registry: Registry): readonly Network[] {
  return registry.server.pool.map(parseNetwork);
}

/** The peer of that name. */
export function peerNamed(registry: Registry, name: string): RegistryPeer | undefined {
  return registry.peers.find((peer) => peer.name === name);
}

/** What no single field can show: two peers with the same name, key or address, or an address out of the pool. */
function conflictOf(registry: Registry): string | undefined {
  const networks = networksOf(registry);
  if (networks.length === 2 && networks[0]!.address.length === networks[1]!.address.length) {
    return 'server.pool[1]: expected a block of the other address family';
  }
  const seen = new Map<string, string>();
  const taken = (kind: string, value: string, field: string): string | undefined => {
    const first = seen.get(`${kind} ${value}`);
    if (first !== undefined) return `${field}: the same ${kind} as ${first}`;
    seen.set(`${kind} ${value}`, field);
    return undefined;
  };
  for (const [i, peer] of registry.peers.entries()) {
    const own = taken('name', peer.name, `peers[${i}].name`) ?? taken('key', peer.publicKey, `peers[${i}].publicKey`);
    if (own !== undefined) return own;
    for (const [j, text] of peer.addresses.entries()) {
      const field = `peers[${i}].addresses[${j}]`;
      const address = parseAddress(text)!;
      if (!networks.some((network) => holdsPeer(network, address))) {
        return `${field}: ${text} is not an address that the pool ${registry.server.pool.join(', ')} gives to peers`;
      }
      const twice = taken('address', text, field);
      if (twice !== undefined) return twice;
    }
  }
  return undefined;
}

function fieldOf(issue: v.BaseIssue<unknown>): string {
  const path = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('');
  return path === '' ? 'the file' : path.replace(/^\./, '');
}

/** Never quotes what was received: it may be a secret in the wrong field. */
function problemOf(issue: v.BaseIssue<unknown>): string {
  if (issue.kind === 'schema' && issue.type === 'strict_object' && issue.expected === 'never') return 'unknown field';
  if (issue.kind === 'schema' && issue.received === 'undefined') return 'missing';
  if (issue.kind === 'schema' && issue.type !== 'literal' && issue.type !== 'picklist') {
    return `expected ${issue.expected ?? 'another value'}`;
  }
  if (issue.type === 'min_value' || issue.type === 'max_value') {
    return `expected a value ${(issue.expected ?? '').replace('>=', 'from ').replace('<=', 'up to ')}`;
  }
  return issue.message;
}

function isCanonicalAddress(text: string): boolean {
  const address = parseAddress(text);
  return address !== undefined && formatAddress(address) === text;
}

function isNetwork(text: string): boolean {
  try {
    return parseNetwork(text).text === text;
  } catch {
    return false;
  }
}
