/** Whatever a client sends to a SOCKS5 relay of datagrams, what goes on is what RFC 1928 section 7 reads in it, whole and once, and nothing else does. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { hostNetwork, type NetworkStack } from '@sealane/tunnel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mutate } from '../../../../test/fuzz/mutate.ts';
import { generator } from '../../../../test/sim/random.ts';
import { parseListen } from '../../src/proxy/address.ts';
import { openProxy } from '../../src/proxy/open-proxy.ts';

/** `npm run fuzz` asks for more. */
const DATAGRAMS = Math.ceil(Number(process.env['SEALANE_FUZZ'] ?? 500_000) / 50);
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);
const AT_ONCE = 32;
const NAME = 'a.example';

type Send = (message: Uint8Array | readonly Uint8Array[], port: number, address: string, done?: () => void) => void;

let closers: (() => unknown)[] = [];
/** What the relay gave to its network: a line of address, port and bytes each. */
let forwarded: string[];
/** Sends a datagram back with what it carried. */
let far: Socket;
let client: Socket;
let relay: number;

beforeEach(async () => {
  forwarded = [];
  far = createSocket('udp4').bind(0, '127.0.0.1');
  await once(far, 'listening');
  far.on('message', (message, { port }) => far.send(message, port, '127.0.0.1'));
  const echo = far.address().port;
  /** Datagrams may name any address: only the echo of this test is ever sent to. */
  const network: NetworkStack = {
    ...hostNetwork,
    createSocket: () => {
      const socket = hostNetwork.createSocket('udp4');
      const send = socket.send.bind(socket) as Send;
      const guarded: Send = (message, port, address, done) => {
        // Until the socket is bound Node keeps a datagram in a list, and gives that here again.
        if (Array.isArray(message)) return send(message, port, address, done);
        forwarded.push(`${address}:${port} ${Buffer.from(message as Uint8Array).toString('hex')}`);
        if (address === '127.0.0.1' && port === echo) send(message, port, address, done);
      };
      return Object.assign(socket, { send: guarded });
    },
    resolve: async (name) => {
      if (name === NAME) return ['127.0.0.1'];
      throw Object.assign(new Error('no name'), { code: 'ENOTFOUND' });
    },
  };
  const proxy = await openProxy({ socks5: [parseListen('0', '--socks5')] }, network);
  const control = net.connect({ host: '127.0.0.1', port: Number(/:(\d+)$/.exec(proxy.listening[0]!)![1]) });
  control.write(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
  let said = Buffer.alloc(0);
  while (said.length < 12) said = Buffer.concat([said, ...((await once(control, 'data')) as Buffer[])]);
  if (said.subarray(0, 4).toString('hex') !== '05000500') throw new Error(`no association: ${said.toString('hex')}`);
  relay = said.readUInt16BE(10);
  client = createSocket('udp4').bind(0, '127.0.0.1');
  await once(client, 'listening');
  closers = [() => far.close(), () => client.close(), () => control.destroy(), () => proxy.close()];
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
});

/** RFC 1928 section 7: RSV, FRAG, ATYP, DST.ADDR, DST.PORT, DATA; as a line of `forwarded`, or undefined for what is dropped. */
function wanted(bytes: Uint8Array): string | undefined {
  const all = Buffer.from(bytes);
  const fragment = all[2];
  if (fragment !== 0) return undefined;
  let host: string;
  let rest: Buffer;
  if (all[3] === 1 && all.length >= 10) {
    host = all.subarray(4, 8).join('.');
    rest = all.subarray(8);
  } else if (all[3] === 4 && all.length >= 22) {
    const groups = Array.from({ length: 8 }, (_, i) => all.readUInt16BE(4 + 2 * i).toString(16));
    const text = new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
    host = text;
    rest = all.subarray(20);
  } else if (all[3] === 3 && all.length >= 5 && all[4]! > 0 && all.length >= 7 + all[4]!) {
    const name = all.subarray(5, 5 + all[4]!).toString();
    if (net.isIP(name) === 0 && name !== NAME) return undefined;
    host = name === NAME ? '127.0.0.1' : name;
    rest = all.subarray(5 + all[4]!);
  } else return undefined;
  const port = rest.readUInt16BE(0);
  return port === 0 ? undefined : `${host}:${port} ${rest.subarray(2).toString('hex')}`;
}

/** Sends all, then one that is answered for certain: returns what went on, and what came back with it. */
async function relayed(datagrams: readonly Uint8Array[], mark: number): Promise<{ on: string[]; back: Buffer[] }> {
  const before = forwarded.length;
  const echo = far.address().port;
  const marker = Buffer.from(`end of round ${mark}`);
  const back: Buffer[] = [];
  const done = new Promise<void>((resolve) => {
    client.on('message', (message) => {
      back.push(message);
      if (message.subarray(10).equals(marker)) resolve();
    });
  });
  for (const bytes of datagrams) await new Promise((sent) => client.send(bytes, relay, '127.0.0.1', sent));
  client.send([Uint8Array.of(0, 0, 0, 1, 127, 0, 0, 1, echo >> 8, echo & 255), marker], relay, '127.0.0.1');
  await done;
  client.removeAllListeners('message');
  const end = `127.0.0.1:${echo} ${marker.toString('hex')}`;
  return { on: forwarded.slice(before).filter((line) => line !== end), back };
}

describe('a relay of datagrams', () => {
  it(`${DATAGRAMS} of them, made of good ones`, { timeout: 120_000 + DATAGRAMS * 10 }, async () => {
    const random = generator(SEED);
    const echo = far.address().port;
    const to = [echo >> 8, echo & 255];
    const good = [
      Uint8Array.of(0, 0, 0, 1, 127, 0, 0, 1, ...to, 1, 2, 3),
      Uint8Array.of(0, 0, 0, 4, ...new Uint8Array(15), 1, ...to, 4, 5),
      Uint8Array.of(0, 0, 0, 3, NAME.length, ...Buffer.from(NAME), ...to, 6),
      Uint8Array.of(0, 0, 0, 3, 9, ...Buffer.from('127.0.0.1'), ...to, 7),
    ];
    let [passed, dropped] = [0, 0];
    for (let round = 0; round * AT_ONCE < DATAGRAMS; round++) {
      const datagrams = Array.from({ length: AT_ONCE }, () =>
        random.chance(0.1)
          ? random.bytes(random.below(100))
          : mutate(random, good[random.below(good.length)]!, good).subarray(0, 1_000),
      );
      const expected = datagrams.flatMap((bytes) => wanted(bytes) ?? []);
      const { on, back } = await relayed(datagrams, round);
      // Names are looked up meanwhile: those go on a little later.
      expect(on.toSorted(), `seed ${SEED}, round ${round}`).toEqual(expected.toSorted());
      for (const message of back)
        expect(message.subarray(0, 10)).toEqual(Buffer.from([0, 0, 0, 1, 127, 0, 0, 1, ...to]));
      passed += expected.length;
      dropped += AT_ONCE - expected.length;
    }
    expect(passed).toBeGreaterThan(DATAGRAMS / 10);
    expect(dropped).toBeGreaterThan(DATAGRAMS / 10);
  });

  it('of the corpus, each case', async () => {
    const file = new URL('../../../../test/fuzz/corpus/proxy.json', import.meta.url);
    const { socks5Udp } = JSON.parse(readFileSync(file, 'utf8')) as {
      socks5Udp: readonly { readonly note: string; readonly hex: string; readonly to?: string }[];
    };
    expect(socks5Udp.length).toBeGreaterThan(10);
    for (const [i, { note, hex, to }] of socks5Udp.entries()) {
      const { on } = await relayed([Buffer.from(hex, 'hex')], i);
      expect(on, note).toEqual(to === undefined ? [] : [to]);
    }
  });

  it('from another port than the first goes nowhere', async () => {
    expect((await relayed([], 0)).on).toEqual([]);
    const stranger = createSocket('udp4').bind(0, '127.0.0.1');
    await once(stranger, 'listening');
    closers.push(() => stranger.close());
    const { port } = far.address();
    const bytes = Uint8Array.of(0, 0, 0, 1, 127, 0, 0, 1, port >> 8, port & 255, 9);
    await new Promise((sent) => stranger.send(bytes, relay, '127.0.0.1', sent));
    expect((await relayed([], 1)).on).toEqual([]);
  });
});
