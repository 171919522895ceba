import { fork } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { nobleCrypto, PacketBatch } from '@sealane/protocol';
import type { PeerStatus } from '@sealane/protocol';
import { memoryPair, openTunnel } from '@sealane/tunnel';
import type { PacketDevice, PacketDeviceNotices, TunnelEvent } from '@sealane/tunnel';
import { CLIENT4, eventually, identity, LOOPBACK, loopback, openEnds, SERVER4, SERVER6 } from './support/tunnels.ts';
import type { Ends } from './support/tunnels.ts';

let ends: Ends | undefined;

afterEach(async () => {
  await ends?.close();
  ends = undefined;
});

describe('two tunnels over loopback', () => {
  it('make a session on the first packet and carry IPv4 and IPv6 echoes', async () => {
    ends = await openEnds();
    const events: TunnelEvent[] = [];
    ends.client.events((event) => void events.push(event));
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    expect(await ends.echo.ping({ target: SERVER6, size: 1372 })).toBeGreaterThan(0);
    expect(await ends.echo.ping({ target: SERVER4, size: 0 })).toBeGreaterThan(0);
    expect(events).toMatchObject([{ type: 'session', role: 'initiator', number: 1 }]);
    const { device, lane } = { ...(await ends.server.status()), lane: ends.server.lane };
    expect(lane).toBe('portable');
    expect(device.peers).toHaveLength(1);
    expect(device.peers[0]).toMatchObject({ sessions: 1, session: { role: 'responder' } });
    expect(ends.host.counts).toEqual({ answered: 3, ignored: 0, refused: 0 });
  });

  it('use a preshared key, and make no session when it differs', async () => {
    ends = await openEnds({ peer: { presharedKey: new Uint8Array(32).fill(7) } });
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    await ends.client.configure({
      peers: [{ publicKey: ends.serverKeys.publicKey, presharedKey: new Uint8Array(32).fill(8) }],
    });
    await ends.client.rekey();
    await eventually(async () => (await ends!.client.status()).device.drops['handshake-failed']).toBeGreaterThan(0);
    expect((await ends.client.status()).device.peers[0]?.sessions).toBe(1);
  });

  it('carry a bulk transfer over many rekeys in both roles without losing a packet', async () => {
    ends = await openEnds();
    const { client, server, echo } = ends;
    expect(await echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    const transfer = { running: true };
    const bulk = echo.bulk({ target: SERVER4, bytes: 8_000_000, window: 48, timeoutMs: 10_000 });
    let renewed = 0;
    const rekeys = (async () => {
      while (transfer.running) {
        const from = renewed % 2 === 0 ? client : server;
        const session = new Promise((resolve) => from.on('session', resolve));
        await from.rekey();
        await session;
        if (transfer.running) renewed++;
        await sleep(20);
      }
    })();
    const result = await bulk;
    transfer.running = false;
    await rekeys;
    expect(result).toMatchObject({ bytes: 8_000_000, lost: 0, wrong: 0 });
    expect(renewed).toBeGreaterThan(2);
    expect((await server.status()).device.peers[0]!.sessions).toBeGreaterThan(renewed / 2);
  }, 60_000);

  it('carry packets of the largest MTU', async () => {
    ends = await openEnds({ mtu: 65_000 });
    const result = await ends.echo.bulk({
      target: SERVER4,
      bytes: 1_000_000,
      size: 64_972,
      window: 2,
      timeoutMs: 10_000,
    });
    expect(result).toMatchObject({ bytes: 1_000_000, lost: 0, wrong: 0 });
  });

  it('follow a peer whose address changes, without losing a packet', async () => {
    const relay = createSocket('udp4');
    relay.bind(0, '127.0.0.1');
    await once(relay, 'listening');
    const outside = createSocket('udp4');
    let current = outside;
    const spare = [outside];
    ends = await openEnds({
      endpoint: (serverPort) => {
        const join = (socket: typeof outside, from: number): void => {
          socket.on('message', (bytes) => relay.send(bytes, from, '127.0.0.1'));
        };
        relay.on('message', (bytes, from) => {
          if (current.listenerCount('message') === 0) join(current, from.port);
          current.send(bytes, serverPort, '127.0.0.1');
        });
        return loopback(relay.address().port);
      },
    });
    const roamed: TunnelEvent[] = [];
    ends.server.on('roamed', (event) => void roamed.push(event));
    let answered = 0;
    for (let n = 0; n < 40; n++) {
      if (n % 10 === 5) {
        current = createSocket('udp4');
        spare.push(current);
      }
      if ((await ends.echo.ping({ target: SERVER4, timeoutMs: 5000 })) !== undefined) answered++;
    }
    for (const socket of [relay, ...spare]) socket.close();
    expect(answered).toBe(40);
    // The first address is learned with the handshake, which counts as the first move.
    await eventually(() => roamed.length).toBeGreaterThanOrEqual(4);
    expect((await ends.server.status()).device.peers[0]?.sessions).toBe(1);
  });

  it('count and drop garbage of every length without an answer or a change', async () => {
    ends = await openEnds();
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    await sleep(50);
    const before = await ends.server.status();
    const stranger = createSocket('udp4');
    stranger.bind(0, '127.0.0.1');
    await once(stranger, 'listening');
    let answers = 0;
    stranger.on('message', () => answers++);
    const garbage = new Uint8Array(65_507);
    for (let i = 0; i < garbage.length; i++) garbage[i] = (i * 167 + 13) & 0xff;
    const types = [1, 2, 3, 4, 0, 255];
    let sent = 0;
    garbage.fill(0, 1, 4);
    for (let length = 0; length <= garbage.length; length++) {
      garbage[0] = types[sent % types.length]!;
      stranger.send(garbage, 0, length, before.listenPort, '127.0.0.1');
      sent++;
      // The receiver lives on this event loop and its socket buffer is small.
      if (sent % 4 === 0) await nextTurn();
    }
    const dropped = async (): Promise<number> =>
      Object.values((await ends!.server.status()).device.drops).reduce((total, n) => total + n, 0);
    await eventually(dropped).toBe(sent);
    const after = await ends.server.status();
    expect(answers).toBe(0);
    expect(after.faults).toEqual(before.faults);
    // A keepalive may have gone in between; nothing else may have changed.
    const lasting = ({ session: _session, rxBytes: _rx, txBytes: _tx, ...rest }: PeerStatus): object => rest;
    expect(after.device.peers.map(lasting)).toEqual(before.device.peers.map(lasting));
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    expect((await ends.server.status()).device.peers[0]?.sessions).toBe(1);
    stranger.close();
  }, 60_000);

  it('drop their own datagrams instead of sealing them again', async () => {
    const wire = createSocket('udp4');
    wire.bind(0, '127.0.0.1');
    await once(wire, 'listening');
    const [device, inside] = memoryPair();
    const peer = identity();
    const everything = { address: new Uint8Array(4), length: 0 };
    const tunnel = await openTunnel({
      device,
      crypto: nobleCrypto,
      config: {
        privateKey: identity().privateKey,
        peers: [{ publicKey: peer.publicKey, endpoint: loopback(wire.address().port), allowedIps: [everything] }],
      },
    });
    const { listenPort } = await tunnel.status();
    const { port } = wire.address();
    const initiation = once(wire, 'message');
    const ordinary = udpPacket(CLIENT4, SERVER4, listenPort, port);
    inside.write(ordinary, 0, ordinary.length);
    await initiation;
    const outer = udpPacket(CLIENT4, LOOPBACK, listenPort, port);
    inside.write(outer, 0, outer.length);
    await eventually(async () => (await tunnel.status()).faults['routing-loop']).toBe(1);
    const otherPort = udpPacket(CLIENT4, LOOPBACK, listenPort, port + 1);
    inside.write(otherPort, 0, otherPort.length);
    await sleep(50);
    expect((await tunnel.status()).faults).toEqual({ 'routing-loop': 1 });
    await tunnel.close();
    wire.close();
  });

  it('answer packets that no peer takes with ICMP, at a bounded rate', async () => {
    const [device, inside] = memoryPair();
    const tunnel = await openTunnel({ device, crypto: nobleCrypto, config: { privateKey: identity().privateKey } });
    const answers: Uint8Array[] = [];
    inside.start({
      readable: () => {
        const batch = new PacketBatch(new Uint8Array(65_536), 32);
        while (inside.read(batch) > 0) {
          for (let i = 0; i < batch.count; i++) {
            answers.push(batch.buffer.slice(batch.offsets[i], batch.offsets[i]! + batch.lengths[i]!));
          }
          batch.clear();
        }
      },
      link: () => undefined,
      closed: () => undefined,
    });
    const packet = udpPacket(CLIENT4, SERVER4, 1234, 5678);
    inside.write(packet, 0, packet.length);
    await eventually(() => answers.length).toBe(1);
    const [answer] = answers;
    // Host unreachable, from the address that was not reached, repeating the packet.
    expect(Array.from(answer!.subarray(20, 22))).toEqual([3, 1]);
    expect(answer!.subarray(12, 20)).toEqual(Uint8Array.of(...SERVER4, ...CLIENT4));
    expect(answer!.subarray(28)).toEqual(packet);
    for (let n = 0; n < 500; n++) inside.write(packet, 0, packet.length);
    await eventually(async () => (await tunnel.status()).device.drops['no-route']).toBe(501);
    await nextTurn();
    expect(answers.length).toBeLessThanOrEqual(200);
    await tunnel.close();
  });

  it('move to another listen port while running', async () => {
    ends = await openEnds();
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    const { listenPort } = await ends.client.status();
    await ends.client.configure({ listenPort: 0 });
    expect((await ends.client.status()).listenPort).not.toBe(listenPort);
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    const taken = (await ends.server.status()).listenPort;
    await expect(ends.client.configure({ listenPort: taken })).rejects.toThrow(`UDP port ${taken} (IPv4) is in use`);
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
  });
});

describe('faults of the network', () => {
  it('are counted by name, and the tunnel goes on', async () => {
    ends = await openEnds();
    const { client, echo, serverKeys } = ends;
    expect(await echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    const { listenPort } = await ends.server.status();
    const nowhere = { address: new Uint8Array([255, 255, 255, 255]), port: 9, scopeId: 0 };
    await client.configure({ peers: [{ publicKey: serverKeys.publicKey, updateOnly: true, endpoint: nowhere }] });
    expect(await echo.ping({ target: SERVER4, timeoutMs: 200 })).toBeUndefined();
    expect((await client.status()).faults).toEqual({ 'send-failed EACCES': 1 });
    await client.configure({
      peers: [{ publicKey: serverKeys.publicKey, updateOnly: true, endpoint: loopback(listenPort) }],
    });
    expect(await echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
  });
});

describe('a device whose link is down', () => {
  it('keeps sockets closed, and what was due meanwhile is sent once it is up', async () => {
    const wire = createSocket('udp4');
    wire.bind(0, '127.0.0.1');
    await once(wire, 'listening');
    const [memory] = memoryPair();
    const link = new SwitchedDevice(memory);
    const peer = identity();
    const tunnel = await openTunnel({
      device: link,
      crypto: nobleCrypto,
      config: {
        privateKey: identity().privateKey,
        peers: [{ publicKey: peer.publicKey, endpoint: loopback(wire.address().port) }],
      },
    });
    expect(await tunnel.status()).toMatchObject({ up: false, listenPort: 0 });
    expect(await tunnel.rekey()).toBe(1);
    // It is made and waits for a socket, which is no fault.
    await eventually(async () => (await tunnel.status()).device.peers[0]?.txBytes).toBe(148);
    expect((await tunnel.status()).faults).toEqual({});
    const initiation = once(wire, 'message');
    link.change(true, 1300);
    expect((await initiation)[0]).toHaveLength(148);
    const first = await tunnel.status();
    expect(first).toMatchObject({ up: true, mtu: 1300 });
    expect(first.listenPort).toBeGreaterThan(0);
    link.change(false, 1300);
    await eventually(async () => (await tunnel.status()).up).toBe(false);
    await eventually(() => isFree(first.listenPort)).toBe(true);
    expect((await tunnel.status()).listenPort).toBe(first.listenPort);
    link.change(true, 1300);
    await eventually(() => isFree(first.listenPort)).toBe(false);
    await tunnel.close();
    wire.close();
  });
});

describe('openTunnel', () => {
  it('refuses a port in use and a wrong configuration, and leaves nothing open', async () => {
    const blocker = createSocket('udp4');
    blocker.bind(0);
    await once(blocker, 'listening');
    const { port } = blocker.address();
    const [device, other] = memoryPair();
    let closed = 0;
    other.start({ readable: () => undefined, link: () => undefined, closed: () => void closed++ });
    await expect(openTunnel({ device, crypto: nobleCrypto, config: { listenPort: port } })).rejects.toThrow(
      'is in use',
    );
    await eventually(() => closed).toBe(1);
    blocker.close();
    for (const config of [{ listenPort: 65_536 }, { fwmark: 1 }, { privateKey: new Uint8Array(31) }]) {
      await expect(openTunnel({ device: memoryPair()[0], crypto: nobleCrypto, config })).rejects.toThrow(
        Object.keys(config)[0]!,
      );
    }
  });

  it('listens on IPv4 and IPv6 with one port', async () => {
    const serverKeys = identity();
    const tunnel = await openTunnel({
      device: memoryPair()[0],
      crypto: nobleCrypto,
      config: { privateKey: serverKeys.privateKey },
    });
    const { listenPort, notes } = await tunnel.status();
    expect(listenPort).toBeGreaterThan(0);
    for (const [family, address] of [['udp4', '127.0.0.1'] as const, ['udp6', '::1'] as const]) {
      if (notes.some((note) => note.includes(family === 'udp4' ? 'no IPv4' : 'no IPv6'))) continue;
      const socket = createSocket(family);
      await new Promise((resolve) => socket.send(new Uint8Array(3), listenPort, address, resolve));
      socket.close();
    }
    await eventually(async () => (await tunnel.status()).device.drops.malformed).toBe(2 - notes.length);
    await tunnel.close();
  });
});

describe('a closed tunnel', () => {
  it('tells so once, frees its port and refuses changes', async () => {
    const keys = identity();
    const [device] = memoryPair();
    const tunnel = await openTunnel({ device, crypto: nobleCrypto, config: { privateKey: keys.privateKey } });
    const { listenPort } = await tunnel.status();
    const closed: TunnelEvent[] = [];
    tunnel.on('closed', (event) => void closed.push(event));
    await Promise.all([tunnel.close(), tunnel.close()]);
    await tunnel[Symbol.asyncDispose]();
    expect(closed).toEqual([{ type: 'closed' }]);
    expect(await isFree(listenPort)).toBe(true);
    expect((await tunnel.secrets()).privateKey).toBeUndefined();
    await expect(tunnel.configure({ mtu: 1280 })).rejects.toThrow('closed');
    const again = await openTunnel({
      device: memoryPair()[0],
      crypto: nobleCrypto,
      config: { privateKey: keys.privateKey, listenPort },
    });
    expect((await again.status()).listenPort).toBe(listenPort);
    await again.close();
  });

  it('leaves nothing behind that keeps the process alive', async () => {
    const child = fork(new URL('./support/open-and-close.mjs', import.meta.url), { execArgv: [] });
    child.disconnect();
    const overdue = setTimeout(() => child.kill('SIGKILL'), 15_000);
    expect(await once(child, 'exit')).toEqual([0, null]);
    clearTimeout(overdue);
  });

  it('closes when its packet device goes away', async () => {
    const [device, other] = memoryPair();
    const tunnel = await openTunnel({ device, crypto: nobleCrypto });
    const closed = new Promise((resolve) => tunnel.on('closed', resolve));
    await other.close();
    expect(await closed).toEqual({ type: 'closed' });
  });
});

describe('listeners', () => {
  it('that fail become warnings, and the others still hear', async () => {
    ends = await openEnds();
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', onWarning);
    let heard = 0;
    ends.client.on('session', () => {
      throw new Error('first');
    });
    ends.client.on('session', async () => Promise.reject(new Error('second')));
    const stop = ends.client.on('session', () => void heard++);
    ends.client.on('closed', () => void heard++);
    expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    await eventually(() => warnings.length).toBe(2);
    expect(warnings.join(' ')).toMatch(/first.*second/);
    expect(heard).toBe(1);
    stop();
    await ends.client.rekey();
    await eventually(async () => (await ends!.client.status()).device.peers[0]?.sessions).toBe(2);
    expect(heard).toBe(1);
    process.off('warning', onWarning);
  });
});

/** A device whose link goes up and down as told; it begins down. */
class SwitchedDevice implements PacketDevice {
  readonly kind = 'memory';
  readonly name = 'switched';
  readonly mtu: number;
  readonly #inner: PacketDevice;
  #notices: PacketDeviceNotices | undefined;

  constructor(inner: PacketDevice) {
    this.#inner = inner;
    this.mtu = inner.mtu;
  }

  read(batch: PacketBatch): number {
    return this.#inner.read(batch);
  }

  write(buffer: Uint8Array, offset: number, length: number): boolean {
    return this.#inner.write(buffer, offset, length);
  }

  start(notices: PacketDeviceNotices): void {
    this.#notices = notices;
    this.#inner.start({ ...notices, link: () => notices.link({ up: false, mtu: this.mtu }) });
  }

  change(up: boolean, mtu: number): void {
    this.#notices?.link({ up, mtu });
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

function udpPacket(source: Uint8Array, target: Uint8Array, from: number, to: number): Uint8Array {
  const packet = new Uint8Array(60);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, packet.length);
  view.setUint8(9, 17);
  packet.set(source, 12);
  packet.set(target, 16);
  view.setUint16(20, from);
  view.setUint16(22, to);
  view.setUint16(24, packet.length - 20);
  return packet;
}

/** Whether this UDP port can be bound now. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('error', () => resolve(false));
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
  });
}
