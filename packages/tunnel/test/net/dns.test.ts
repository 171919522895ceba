import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DnsResolver, TunnelNetwork } from '@sealane/tunnel';
import { encodeQuery, parseAnswer } from '../../src/net/dns-message.ts';
import { LEFT, type Pair, RIGHT, stackOf, stackPair, wire } from '../support/stacks.ts';

const A = 1;
const CNAME = 5;
const AAAA = 28;

interface Rule {
  readonly code?: number;
  readonly truncated?: boolean;
  readonly silent?: boolean;
  readonly records?: readonly (readonly [name: string, type: number, data: Uint8Array, ttl?: number])[];
}

/** A name server written from RFC 1035, not from the resolver. */
class NameServer {
  readonly rules = new Map<string, Rule>();
  readonly asked: string[] = [];
  readonly overTcp: string[] = [];

  answer(query: Uint8Array, isTcp: boolean): Uint8Array | undefined {
    const bytes = Buffer.from(query);
    const labels: string[] = [];
    let at = 12;
    while (bytes[at]! > 0) {
      labels.push(bytes.toString('latin1', at + 1, at + 1 + bytes[at]!));
      at += bytes[at]! + 1;
    }
    const type = bytes.readUInt16BE(at + 1);
    const key = `${labels.join('.')} ${type === A ? 'A' : type === AAAA ? 'AAAA' : type}`;
    this.asked.push(key);
    if (isTcp) this.overTcp.push(key);
    const rule = this.rules.get(key) ?? { records: [] };
    if (rule.silent === true) return undefined;
    const isCut = rule.truncated === true && !isTcp;
    const records = isCut ? [] : (rule.records ?? []);
    const head = Buffer.alloc(12);
    head.writeUInt16BE(bytes.readUInt16BE(0), 0);
    head.writeUInt16BE(0x8180 | (isCut ? 0x0200 : 0) | (rule.code ?? 0), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(records.length, 6);
    return Buffer.concat([
      head,
      bytes.subarray(12, at + 5),
      ...records.map(([name, recordType, data, ttl = 60]) => {
        const fixed = Buffer.alloc(10);
        fixed.writeUInt16BE(recordType, 0);
        fixed.writeUInt16BE(1, 2);
        fixed.writeUInt32BE(ttl, 4);
        fixed.writeUInt16BE(data.length, 8);
        return Buffer.concat([nameBytes(name), fixed, data]);
      }),
    ]);
  }
}

function nameBytes(name: string): Buffer {
  return Buffer.concat([
    ...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0]),
  ]);
}

let pair: Pair;
let server: NameServer;
let resolver: DnsResolver;

beforeEach(async () => {
  pair = stackPair();
  server = new NameServer();
  const udp = pair.right.createSocket('udp4');
  udp.bind(53);
  udp.on('message', (query: Uint8Array, from: { port: number; address: string }) => {
    const reply = server.answer(query, false);
    if (reply === undefined) return;
    // What an attacker guesses comes first: another id, another question.
    const forged = Uint8Array.from(reply);
    forged[0]! ^= 0xff;
    udp.send(forged, from.port, from.address);
    udp.send(reply, from.port, from.address);
  });
  const tcp = pair.right.createServer((socket) => {
    socket.once('data', (chunk: Uint8Array) => {
      const reply = server.answer(chunk.subarray(2), true)!;
      socket.end(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 0xff]), reply]));
    });
  });
  tcp.listen({ port: 53 });
  await once(tcp, 'listening');
  resolver = new DnsResolver({ network: pair.left, servers: [RIGHT], search: ['corp.test'], timeoutMs: 150 });
});
afterEach(() => pair.close());

const v4 = (text: string): Uint8Array => Uint8Array.from(text.split('.'), Number);

describe('the resolver', () => {
  it('finds both families and asks once for what it remembers', async () => {
    server.rules.set('a.test A', { records: [['a.test', A, v4('127.1.2.3')]] });
    server.rules.set('a.test AAAA', {
      records: [['a.test', AAAA, Buffer.from('fd000000000000000000000000000001', 'hex')]],
    });
    expect(await resolver.resolve('A.test')).toEqual(['127.1.2.3', 'fd00::1']);
    expect(await resolver.resolve('a.test')).toEqual(['127.1.2.3', 'fd00::1']);
    expect(server.asked).toHaveLength(2);
  });

  it('follows aliases, within an answer and beyond', async () => {
    server.rules.set('www.test A', {
      records: [
        ['www.test', CNAME, nameBytes('b.test')],
        ['b.test', CNAME, nameBytes('c.test')],
      ],
    });
    server.rules.set('c.test A', { records: [['c.test', A, v4('127.0.0.9')]] });
    expect(await resolver.resolve('www.test')).toEqual(['127.0.0.9']);
  });

  it('asks again over TCP when the answer is cut', async () => {
    const records = Array.from({ length: 60 }, (_, i) => ['many.test', A, v4(`127.0.1.${i}`)] as const);
    server.rules.set('many.test A', { truncated: true, records });
    expect(await resolver.resolve('many.test')).toHaveLength(60);
    // On a busy machine the answer may come too late once, and the question twice.
    expect(new Set(server.overTcp)).toEqual(new Set(['many.test A']));
  });

  it('tells a name that does not exist from a server that does not answer', async () => {
    server.rules.set('none.test A', { code: 3 });
    server.rules.set('none.test AAAA', { code: 3 });
    await expect(resolver.resolve('none.test')).rejects.toMatchObject({ code: 'ENOTFOUND', hostname: 'none.test' });
    server.rules.set('mute.test A', { silent: true });
    await expect(resolver.resolve('mute.test')).rejects.toMatchObject({ code: 'EAI_AGAIN' });
    server.rules.set('broken.test A', { code: 2 });
    await expect(resolver.resolve('broken.test')).rejects.toMatchObject({ code: 'EAI_AGAIN' });
  });

  it('asks the next server when one is silent', async () => {
    server.rules.set('a.test A', { records: [['a.test', A, v4('127.1.2.3')]] });
    const both = new DnsResolver({
      network: pair.left,
      servers: ['127.99.0.77', RIGHT],
      timeoutMs: 100,
      families: [4],
    });
    expect(await both.resolve('a.test')).toEqual(['127.1.2.3']);
  });

  it('tries the search domains for a single label', async () => {
    server.rules.set('db.corp.test A', { records: [['db.corp.test', A, v4('127.1.1.1')]] });
    expect(await resolver.resolve('db')).toEqual(['127.1.1.1']);
  });

  it('never asks for localhost or for an address', async () => {
    expect(await resolver.resolve('localhost')).toEqual(['127.0.0.1', '::1']);
    expect(await resolver.resolve('127.4.4.4')).toEqual(['127.4.4.4']);
    expect(server.asked).toEqual([]);
  });

  it('refuses names that DNS cannot carry', async () => {
    await expect(resolver.resolve(`${'x'.repeat(64)}.test`)).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(resolver.resolve('a b')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(server.asked).toEqual([]);
  });

  it('serves a network that was told its name servers', async () => {
    const device = stackOf('third', LEFT);
    const far = stackOf('far', RIGHT);
    wire(device, far);
    const names = new NameServer();
    names.rules.set('web.test A', { records: [['web.test', A, v4(RIGHT)]] });
    const farNetwork = new TunnelNetwork(far, { families: [4] });
    const udp = farNetwork.createSocket('udp4').bind(53);
    udp.on('message', (query: Uint8Array, from: { port: number; address: string }) =>
      udp.send(names.answer(query, false)!, from.port, from.address),
    );
    const web = farNetwork.createServer((socket) => socket.end());
    web.listen({ port: 80 });
    const network = new TunnelNetwork(device, { families: [4], dns: { servers: [RIGHT] } });
    const socket = network.connect({ host: 'web.test', port: 80 });
    await once(socket, 'connect');
    expect(socket.remoteAddress).toBe(RIGHT);
    await Promise.all([device.close(), far.close()]);
  });
});

describe('answers', () => {
  const query = encodeQuery(7, 'a.test', A)!;
  const good = (): Uint8Array => {
    const names = new NameServer();
    names.rules.set('a.test A', { records: [['a.test', A, v4('127.1.2.3')]] });
    return names.answer(query, false)!;
  };

  it('count only for the question that was asked', () => {
    expect(parseAnswer(good(), query)).toMatchObject({ kind: 'addresses' });
    expect(parseAnswer(good(), encodeQuery(8, 'a.test', A)!)).toBeUndefined();
    expect(parseAnswer(good(), encodeQuery(7, 'b.test', A)!)).toBeUndefined();
    expect(parseAnswer(good(), encodeQuery(7, 'a.test', AAAA)!)).toBeUndefined();
    expect(parseAnswer(query, query)).toBeUndefined();
  });

  it('never throw and always end, whatever they hold', () => {
    const base = good();
    for (let i = 0; i < 20_000; i++) {
      const bytes = Uint8Array.from(base.subarray(0, i % 7 === 0 ? i % base.length : base.length));
      const noise = randomBytes(6);
      for (let n = 0; n < 3; n++) bytes[12 + (noise[n]! % base.length)] = noise[n + 3]!;
      const answer = parseAnswer(bytes, query);
      expect(answer === undefined || typeof answer.kind === 'string').toBe(true);
    }
  });

  it('may not point forward or in circles', () => {
    const bytes = Buffer.concat([Buffer.from(good())]);
    bytes[query.length] = 0xc0;
    bytes[query.length + 1] = query.length;
    expect(parseAnswer(bytes, query)).toBeUndefined();
  });
});
