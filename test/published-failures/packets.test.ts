/** Published failures of other implementations around packets, addresses and memory, each named by where it happened. */
import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { Device, PacketBatch, nobleCrypto } from '@sealane/protocol';
import { formatEndpoint, memoryPair, openTunnel, parseEndpoint, selectCrypto } from '@sealane/tunnel';
import type { PacketDevice, Tunnel } from '@sealane/tunnel';
import { indexTablesOf, junkInitiation } from '../../packages/protocol/test/support/lab.ts';
import {
  CLIENT4,
  SERVER4,
  eventually,
  identity,
  loopback,
  openEnds,
} from '../../packages/tunnel/test/support/tunnels.ts';
import type { Identity } from '../../packages/tunnel/test/support/tunnels.ts';
import { ipPacket } from '../sim/packets.ts';
import { generator } from '../sim/random.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { World, outer, outer6, peerOf, statusOf } from '../sim/world.ts';

const SECOND = 1_000;
const random = generator(46);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heapUsed(): number {
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

const FULL = process.env['SEALANE_FULL'] !== undefined;
const CHANGES = FULL ? 100_000 : 20_000;
const CLOSED = FULL ? 1_000 : 40;
const timeout = FULL ? 3_600_000 : 60_000;

describe('packets', { timeout }, () => {
  it('tailscale-rs #287: keepalives were handed to the packet device', async () => {
    const [clientKeys, serverKeys] = [identity(), identity()];
    /** The lengths of all that is written to the packet device of a tunnel, and a way to give it a packet. */
    const open = async (
      ...config: [Identity, Identity, Uint8Array, number?]
    ): Promise<{ tunnel: Tunnel; written: number[]; outside: PacketDevice }> => {
      const [own, other, allowed, port] = config;
      const [device, outside] = memoryPair();
      const written: number[] = [];
      const taken = new PacketBatch(new Uint8Array(64 * 2_048), 64);
      const readable = (): void => {
        for (taken.clear(); outside.read(taken) > 0; taken.clear())
          for (let i = 0; i < taken.count; i++) written.push(taken.lengths[i]!);
      };
      outside.start({ readable, link() {}, closed() {} });
      const peer = {
        publicKey: other.publicKey,
        allowedIps: [{ address: allowed, length: 32 }],
        persistentKeepalive: 1,
        ...(port !== undefined && { endpoint: loopback(port) }),
      };
      const tunnel = await openTunnel({
        device,
        crypto: nobleCrypto,
        config: { privateKey: own.privateKey, peers: [peer] },
      });
      return { tunnel, written, outside };
    };
    const server = await open(serverKeys, clientKeys, CLIENT4);
    const client = await open(clientKeys, serverKeys, SERVER4, (await server.tunnel.status()).listenPort);
    for (const { tunnel } of [server, client])
      await eventually(async () => (await tunnel.status()).device.peers[0]!.rxBytes).toBeGreaterThan(200);
    // What was written before is read before: the packet comes last.
    for (const [from, to, packet] of [
      [client, server, ipPacket(CLIENT4, SERVER4, 1, 60)],
      [server, client, ipPacket(SERVER4, CLIENT4, 1, 60)],
    ] as const) {
      expect(from.outside.write(packet, 0, packet.length)).toBe(true);
      await eventually(() => to.written.at(-1)).toBe(60);
      expect(to.written).toEqual([60]);
    }
    await Promise.all([client.tunnel.close(), server.tunnel.close()]);
  });

  it('gotatun 0.7.2 (131db1f): one datagram of 65,507 bytes killed the receiver, unauthenticated', async () => {
    const { createSocket } = await import('node:dgram');
    const ends = await openEnds();
    const { listenPort } = await ends.server.status();
    const attacker = createSocket('udp4');
    for (const length of [0, 1, 3, 4, 31, 32, 63, 64, 65, 91, 92, 93, 147, 148, 149, 9_000, 65_506, 65_507]) {
      for (const type of [1, 2, 3, 4, 255]) {
        const bytes = random.bytes(length);
        bytes.set([type, 0, 0, 0].slice(0, length));
        await new Promise((resolve) => attacker.send(bytes, listenPort, '127.0.0.1', resolve));
      }
    }
    attacker.close();
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    await ends.close();
  });

  it('gotatun 0.7.2 (30ea7d9): sources were checked against the sender, not against the longest match of all', () => {
    const world = new World({ seed: 1 });
    const hub = world.add('hub');
    const a = world.add('a');
    const b = world.add('b');
    a.configure({ peers: [peerOf(hub)] });
    hub.configure({
      peers: [
        { publicKey: a.publicKey, allowedIps: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }] },
        { publicKey: b.publicKey, allowedIps: [{ address: Uint8Array.of(10, 1, 2, 3), length: 32 }] },
      ],
    });
    a.send(ipPacket(Uint8Array.of(10, 9, 9, 9), hub.inner));
    a.send(ipPacket(Uint8Array.of(10, 1, 2, 3), hub.inner));
    world.run(SECOND);
    expect(hub.delivered.map(({ packet }) => packet.slice(12, 16).join('.'))).toEqual(['10.9.9.9']);
    expect(hub.device.status(hub.now).drops['refused-source']).toBe(1);
  });

  it('gotatun 0.3.0 (audit): session indexes could be predicted', () => {
    const draw = generator(47);
    const indexes: number[] = [];
    for (let seed = 0; seed < 50; seed++) {
      const world = new World({ seed: draw.below(2 ** 31), crypto: toyCrypto });
      const [a] = world.pair();
      world.network.filter = () => false;
      for (let i = 0; i < 200; i++) {
        a.rekey();
        world.run(20);
      }
      for (const { bytes } of world.log.of({ kind: 'initiation' })) {
        indexes.push(new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true));
      }
    }
    expect(indexes.length).toBe(10_000);
    expect(new Set(indexes).size).toBeGreaterThan(9_990);
    for (const shift of [0, 8, 16, 24]) {
      const counts = new Float64Array(256);
      for (const index of indexes) counts[(index >>> shift) & 255]! += 1;
      const expected = indexes.length / 256;
      const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      // 255 degrees of freedom: beyond 350 lies one in 50,000.
      expect(chiSquare).toBeLessThan(350);
    }
  });

  it('gotatun 0.3.0 (audit): data was not padded', () => {
    const world = new World({ seed: 2, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    for (let length = 20; length <= 1_420; length++) world.ping(a, b, 0, length);
    for (const { bytes } of world.log.of({ kind: 'data' })) {
      const inside = bytes.length - 32;
      expect(inside % 16 === 0 || inside === 1_420).toBe(true);
    }
  });

  it('gotatun 0.8.0, boringtun #489: the endpoint roamed on cookie replies', () => {
    const world = new World({ seed: 3 });
    const [a, b] = world.pair();
    world.network.filter = ({ kind }) => kind !== 'response';
    const recorded: Uint8Array[] = [];
    world.network.onSend = ({ kind, to, bytes }) =>
      void (kind === 'cookie' && to === 'a' && recorded.push(bytes.slice()));
    a.rekey();
    for (let i = 0; i < 140; i++) b.accept(junkInitiation(b.publicKey, random), outer(50));
    world.run(0);
    expect(recorded).toHaveLength(1);
    for (const source of [outer(99), outer6(99)]) a.accept(recorded[0]!, source);
    world.run(0);
    expect(statusOf(a, b).endpoint).toEqual(b.endpoint);
    expect(a.eventsOf('roamed')).toEqual([]);
  });

  it('gotatun 0.5.1, 0.4.1: IPv6 sources were misread, port 65535 was never used', () => {
    const texts = ['127.0.0.1:1', '127.0.0.1:65535', '[::1]:1', '[fe80::1%1]:65535'];
    for (const text of texts) expect(formatEndpoint(parseEndpoint(text)!)).toBe(text);
    expect(formatEndpoint(parseEndpoint('[::ffff:192.0.2.1]:51820')!)).toBe('192.0.2.1:51820');
    const device = new Device({ crypto: nobleCrypto, random: (length) => random.bytes(length) });
    const publicKey = nobleCrypto.publicKey(random.bytes(32));
    for (const text of texts) {
      const endpoint = parseEndpoint(text)!;
      device.configure({ privateKey: new Uint8Array(32).fill(9), peers: [{ publicKey, endpoint }] }, 0);
      expect(device.status(0).peers[0]!.endpoint).toEqual(endpoint);
    }
    const world = new World({ seed: 4 });
    const [a, b] = world.pair();
    a.move([outer(70, 65_535), outer6(70, 1)]);
    b.move([outer(71, 1), outer6(71, 65_535)]);
    for (const endpoint of b.endpoints) {
      a.configure({ peers: [{ publicKey: b.publicKey, endpoint }] });
      a.rekey();
      world.run(6 * SECOND);
    }
    expect(statusOf(b, a).sessions).toBe(2);
    expect(statusOf(b, a).endpoint).toEqual(outer6(70, 1));
  });

  it.each([0, 1, 68, 576, 65_535])('wireguard-go 842888a, 7c971d7, 9cbcff1: lax lengths, MTU %i', (mtu) => {
    const world = new World({ seed: 5, crypto: toyCrypto });
    const a = world.add('a', { mtu });
    const b = world.add('b', { mtu });
    world.connect(a, b);
    world.ping(a, b);
    world.run(SECOND);
    expect(b.delivered.length).toBe(1);
    const state = JSON.stringify(b.device.status(b.now).peers);
    for (const [type, exact] of [
      [1, 148],
      [2, 92],
      [3, 64],
      [4, 32],
    ] as const) {
      for (const length of [exact - 1, exact + 1]) {
        const bytes = random.bytes(length);
        bytes.set([type, 0, 0, 0]);
        expect(b.accept(bytes, outer(50))).toBe(type === 4 && length > exact ? 'unknown-index' : 'malformed');
      }
      const reserved = random.bytes(exact);
      reserved.set([type, 0, 1, 0]);
      expect(b.accept(reserved, outer(50))).toBe('malformed');
    }
    world.run(0);
    expect(JSON.stringify(b.device.status(b.now).peers)).toBe(state);
  });

  it('boringtun 174cc60: a large configuration overflowed the stack', () => {
    const device = new Device({ crypto: toyCrypto, random: (length) => random.bytes(length) });
    let prefix = 0;
    const peers = Array.from({ length: 10_000 }, (_, i) => ({
      publicKey: random.bytes(32),
      allowedIps: Array.from({ length: i === 0 ? 130_560 - 9_999 : 1 }, () => ({
        address: new Uint8Array([10, prefix >>> 16, prefix >>> 8, prefix++]),
        length: 32,
      })),
    }));
    device.configure({ privateKey: random.bytes(32), peers }, 0);
    const status = device.status(0);
    expect(status.peers.length).toBe(10_000);
    expect(status.peers.reduce((sum, { allowedIps }) => sum + allowedIps.length, 0)).toBe(130_560);
  });

  it('tailscale #20954: nodes of the allowed IPs leaked with every change of the configuration', () => {
    const device = new Device({ crypto: toyCrypto, random: (length) => random.bytes(length) });
    device.configure({ privateKey: random.bytes(32) }, 0);
    const keys = Array.from({ length: 8 }, () => random.bytes(32));
    const cycle = (i: number): void => {
      const peers = keys.slice(i % 4, (i % 4) + 4).map((publicKey, p) => ({
        publicKey,
        replaceAllowedIps: true,
        allowedIps: Array.from({ length: 6 }, (_, n) => ({
          address: Uint8Array.of(10, p, (i * 7 + n) & 255, (i * 13) & 255),
          length: 8 + ((i + 4 * n) % 25),
        })),
      }));
      device.configure({ replacePeers: true, peers }, i);
    };
    for (let i = 0; i < 2_000; i++) cycle(i);
    const before = heapUsed();
    for (let i = 2_000; i < 2_000 + CHANGES; i++) cycle(i);
    expect(heapUsed() / before).toBeLessThan(1.02);
  });

  it('wireguard-go 867a4c4, 113c8f1; tailscale #11382: a stalled packet device grew queues without end', async () => {
    const [clientKeys, serverKeys] = [identity(), identity()];
    const [device, stalled] = memoryPair({ name: 'stalled' });
    const server = await openTunnel({
      device,
      crypto: selectCrypto(),
      config: {
        privateKey: serverKeys.privateKey,
        peers: [{ publicKey: clientKeys.publicKey, allowedIps: [{ address: CLIENT4, length: 32 }] }],
      },
    });
    const [clientDevice, outside] = memoryPair({ name: 'client' });
    const { listenPort } = await server.status();
    const allowedIps = [{ address: SERVER4, length: 32 }];
    const client = await openTunnel({
      device: clientDevice,
      crypto: selectCrypto(),
      config: {
        privateKey: clientKeys.privateKey,
        peers: [{ publicKey: serverKeys.publicKey, endpoint: loopback(listenPort), allowedIps }],
      },
    });
    outside.start({ readable() {}, link() {}, closed() {} });
    const packet = ipPacket(CLIENT4, SERVER4, 1, 1_400);
    const write = (): boolean => outside.write(packet, 0, packet.length);
    const memory = (): number => heapUsed() + process.memoryUsage().arrayBuffers;
    write();
    await eventually(async () => (await server.status()).device.peers[0]!.sessions).toBe(1);
    const before = memory();
    let written = 0;
    while (written < 20_000) {
      if (write()) written++;
      else await new Promise((resolve) => setImmediate(resolve));
    }
    expect(memory() - before).toBeLessThan(64 * 2 ** 20);
    // Someone reads again: what is sent from then on arrives.
    const taken = new PacketBatch(new Uint8Array(64 * 2_048), 64);
    let received = 0;
    stalled.start({
      readable() {
        for (;;) {
          taken.clear();
          if (stalled.read(taken) === 0) return;
          received += taken.count;
        }
      },
      link() {},
      closed() {},
    });
    await eventually(() => received).toBeGreaterThan(0);
    const were = received;
    write();
    await eventually(() => received).toBeGreaterThan(were);
    await Promise.all([client.close(), server.close()]);
  });

  it('wireguard-go #79, eae5e0f: closing with packets in flight crashed and leaked descriptors', async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    let before = 0;
    for (let i = 0; i < CLOSED; i++) {
      const ends = await openEnds();
      for (let n = 0; n < 20; n++) void ends.echo.ping({ target: SERVER4 }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, i % 8));
      await ends.close();
      if (i === 3) before = descriptors();
    }
    await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  });

  it('wireguard-go 63abb55: handshakes were answered while the device was down', () => {
    const world = new World({ seed: 6 });
    const [a, b] = world.pair();
    b.device.close();
    world.ping(a, b);
    world.run(200 * SECOND);
    expect(world.log.of({ from: 'b' })).toEqual([]);
    // Without a key a device is as silent as without anything.
    b.restart();
    b.configure({ privateKey: new Uint8Array(32), peers: [{ publicKey: a.publicKey, endpoint: a.endpoint }] });
    const tables = indexTablesOf(() => {
      world.ping(a, b);
      world.run(200 * SECOND);
    });
    expect(world.log.of({ from: 'b' })).toEqual([]);
    expect(tables).toHaveLength(1);
  });
});
