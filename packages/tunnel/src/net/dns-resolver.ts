/** A stub resolver (RFC 1035 section 5.3.1) over any network: UDP first, TCP when an answer does not fit. */
import { randomInt } from 'node:crypto';
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { formatAddress } from '../ip-text.ts';
import { type AddressType, type DnsAnswer, encodeQuery, parseAnswer, TYPE_A, TYPE_AAAA } from './dns-message.ts';
import { lookupError } from './errors.ts';
import type { NetworkStack, RemoteAddress } from './types.ts';

export interface DnsResolverOptions {
  readonly network: Pick<NetworkStack, 'connect' | 'createSocket'>;
  /** Addresses of the name servers in the order of preference, at least one. */
  readonly servers: readonly string[];
  /** Domains that a name without a dot is tried in, in this order. */
  readonly search?: readonly string[];
  /** The address families to ask for, in the order of preference. */
  readonly families?: readonly (4 | 6)[];
  /** 53 by default. */
  readonly port?: number;
  /** How long to wait for one server, in milliseconds; 2500 by default. */
  readonly timeoutMs?: number;
}

const ROUNDS = 2;
const MAX_ALIAS_QUERIES = 8;
const MAX_TTL_SECONDS = 300;
/** How long the absence of a name is believed. */
const NEGATIVE_TTL_SECONDS = 5;
const MAX_CACHED = 1_000;
const MAX_PENDING = 1_000;

interface Found {
  readonly addresses: readonly string[];
  readonly ttlSeconds: number;
}

/** Resolves names through the name servers it is given; remembers answers for as long as they allow, at most five minutes. */
export class DnsResolver {
  readonly #network: DnsResolverOptions['network'];
  readonly #servers: readonly string[];
  readonly #search: readonly string[];
  readonly #types: readonly AddressType[];
  readonly #port: number;
  readonly #timeoutMs: number;
  readonly #cache = new Map<string, { readonly addresses: readonly string[]; readonly until: number }>();
  readonly #pending = new Map<string, Promise<readonly string[]>>();
  /** Why the last question could not be asked at all. */
  #fault: unknown;

  constructor(options: DnsResolverOptions) {
    if (options.servers.length === 0) throw new RangeError('servers must name at least one name server');
    this.#network = options.network;
    this.#servers = options.servers;
    this.#search = options.search ?? [];
    this.#types = (options.families ?? [4, 6]).map((family) => (family === 4 ? TYPE_A : TYPE_AAAA));
    this.#port = options.port ?? 53;
    this.#timeoutMs = options.timeoutMs ?? 2_500;
  }

  /** The addresses of a name; rejects with code ENOTFOUND when it has none, EAI_AGAIN when no server answers. */
  async resolve(name: string): Promise<readonly string[]> {
    if (isIP(name) !== 0) return [name];
    const ascii = domainToASCII(name).toLowerCase();
    // RFC 6761 §6.3: never asked for.
    if (ascii === 'localhost' || ascii.endsWith('.localhost')) {
      return this.#types.map((type) => (type === TYPE_A ? '127.0.0.1' : '::1'));
    }
    if (ascii === '') throw lookupError('ENOTFOUND', name);
    const cached = this.#cache.get(ascii);
    if (cached !== undefined && cached.until > performance.now()) {
      if (cached.addresses.length === 0) throw lookupError('ENOTFOUND', name);
      return cached.addresses;
    }
    const pending = this.#pending.get(ascii);
    if (pending !== undefined) return pending;
    if (this.#pending.size >= MAX_PENDING) throw lookupError('EAI_AGAIN', name);
    const looking = this.#look(ascii).finally(() => this.#pending.delete(ascii));
    this.#pending.set(ascii, looking);
    return looking;
  }

  async #look(name: string): Promise<readonly string[]> {
    for (const candidate of this.#candidates(name)) {
      const results = await Promise.all(this.#types.map((type) => this.#query(candidate, type)));
      const found = results.filter((result) => result !== 'failed');
      const addresses = found.flatMap((result) => result.addresses);
      if (addresses.length > 0) {
        this.#remember(name, addresses, Math.min(...found.map(({ ttlSeconds }) => ttlSeconds)));
        return addresses;
      }
      // What one server could not say may well exist: neither look elsewhere nor remember.
      if (found.length < results.length) throw lookupError('EAI_AGAIN', name, this.#fault);
    }
    this.#remember(name, [], NEGATIVE_TTL_SECONDS);
    throw lookupError('ENOTFOUND', name);
  }

  #candidates(name: string): readonly string[] {
    if (name.includes('.')) return [name];
    return [...this.#search.map((domain) => `${name}.${domain}`), name];
  }

  async #query(asked: string, type: AddressType): Promise<Found | 'failed'> {
    let name = asked;
    for (let i = 0; i < MAX_ALIAS_QUERIES; i++) {
      const answer = await this.#ask(name, type);
      switch (answer.kind) {
        case 'addresses':
          return { addresses: answer.addresses.map(formatAddress), ttlSeconds: answer.ttlSeconds };
        case 'no-data':
        case 'no-name':
          return { addresses: [], ttlSeconds: Infinity };
        case 'alias':
          name = answer.name;
          break;
        case 'truncated':
        case 'failed':
          return 'failed';
      }
    }
    return 'failed';
  }

  async #ask(name: string, type: AddressType): Promise<DnsAnswer> {
    for (let round = 0; round < ROUNDS; round++) {
      for (const server of this.#servers) {
        const query = encodeQuery(randomInt(0x1_0000), name, type);
        if (query === undefined) return { kind: 'no-name' };
        this.#fault = undefined;
        let answer = await this.#overUdp(server, query);
        if (answer?.kind === 'truncated') answer = await this.#overTcp(server, query);
        if (answer !== undefined && answer.kind !== 'failed' && answer.kind !== 'truncated') return answer;
      }
    }
    return { kind: 'failed' };
  }

  #overUdp(server: string, query: Uint8Array): Promise<DnsAnswer | undefined> {
    return new Promise((resolve) => {
      const socket = this.#network.createSocket(isIP(server) === 6 ? 'udp6' : 'udp4');
      const done = (answer: DnsAnswer | undefined): void => {
        clearTimeout(timer);
        socket.removeListener('message', onMessage);
        socket.close();
        resolve(answer);
      };
      let isDone = false;
      const once = (answer: DnsAnswer | undefined): void => {
        if (!isDone) done(answer);
        isDone = true;
      };
      const onMessage = (message: Uint8Array, from: RemoteAddress): void => {
        if (from.port !== this.#port || from.address !== server) return;
        const answer = parseAnswer(message, query);
        if (answer !== undefined) once(answer);
      };
      const timer = setTimeout(() => once(undefined), this.#timeoutMs);
      socket.on('message', onMessage);
      socket.on('error', () => once(undefined));
      socket.send(query, this.#port, server, (error) => {
        if (error === null) return;
        this.#fault = error;
        once(undefined);
      });
    });
  }

  /** RFC 7766: the same message behind its length. */
  #overTcp(server: string, query: Uint8Array): Promise<DnsAnswer | undefined> {
    return new Promise((resolve) => {
      const socket = this.#network.connect({ host: server, port: this.#port });
      const done = (answer: DnsAnswer | undefined): void => {
        clearTimeout(timer);
        socket.destroy();
        resolve(answer);
      };
      const timer = setTimeout(() => done(undefined), this.#timeoutMs);
      let received: Uint8Array = new Uint8Array(0);
      socket.on('data', (chunk: Uint8Array) => {
        received = Buffer.concat([received, chunk]);
        if (received.length < 2) return;
        const length = (received[0]! << 8) | received[1]!;
        if (received.length >= 2 + length) done(parseAnswer(received.subarray(2, 2 + length), query));
      });
      socket.on('error', () => done(undefined));
      socket.on('end', () => done(undefined));
      socket.write(Uint8Array.of(query.length >> 8, query.length & 0xff));
      socket.write(query);
    });
  }

  #remember(name: string, addresses: readonly string[], ttlSeconds: number): void {
    const ttl = Math.min(ttlSeconds, MAX_TTL_SECONDS);
    if (ttl <= 0) return;
    this.#cache.delete(name);
    this.#cache.set(name, { addresses, until: performance.now() + ttl * 1_000 });
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= MAX_CACHED) break;
      this.#cache.delete(oldest);
    }
  }
}
