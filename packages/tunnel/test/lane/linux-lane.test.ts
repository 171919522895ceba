/**
 * The Linux lane with real interfaces: each lives in a network namespace of its own while the datagrams between them cross the
 * loopback of the host.
 *
 *   namespace a: slla 10.91.0.1 --- tunnel --- 127.0.0.1 --- tunnel --- sllb 10.91.0.2 :namespace b
 */
import { execFile, execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { generatePrivateKey, nobleCrypto, type CipherSuite, type Endpoint } from '@sealane/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openTun, type TunDevice } from '../../src/devices/tun.ts';
import { parseAddress, parsePrefix } from '../../src/ip-text.ts';
import type { LaneKind, LaneTraffic, TunnelEvent, TunnelUpdate } from '../../src/model.ts';
import { openDeviceTunnel, type Tunnel } from '../../src/tunnel.ts';

const root = process.platform === 'linux' && process.getuid!() === 0;
const run = promisify(execFile);
const ip = (...args: readonly string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

const suffix = process.pid.toString(36);
const SIDES = ['a', 'b'] as const;
type Side = (typeof SIDES)[number];
const namespaceOf = (side: Side): string => `sealane-ll-${side}-${suffix}`;
const nameOf = (side: Side): string => `sll${side}${suffix}`;
const other = (side: Side): Side => (side === 'a' ? 'b' : 'a');

/** Of UDP over IPv4. */
const LONGEST_DATAGRAM = 65_507;
/** Bytes that are sent before somebody looks whether they were read. */
const MOST_AHEAD = 2 ** 20;

const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));
const privateKeys = { a: generatePrivateKey(random), b: generatePrivateKey(random) };
const publicKeys = { a: nobleCrypto.publicKey(privateKeys.a), b: nobleCrypto.publicKey(privateKeys.b) };

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never happened: ${what}`);
}

describe.runIf(root)('the Linux lane', () => {
  const tunnels: Partial<Record<Side, Tunnel>> = {};
  const events: Record<Side, TunnelEvent[]> = { a: [], b: [] };

  beforeEach(() => {
    for (const side of SIDES) {
      ip('netns', 'add', namespaceOf(side));
      ip('-n', namespaceOf(side), 'link', 'set', 'lo', 'up');
    }
  });
  afterEach(async () => {
    for (const side of SIDES) {
      await tunnels[side]?.close();
      delete tunnels[side];
      events[side] = [];
      ip('netns', 'del', namespaceOf(side));
    }
  });

  /** A TUN in its namespace, up and with addresses. */
  function interfaceOf(side: Side, mtu = 1420, queues = 1): TunDevice {
    const device = openTun({ name: nameOf(side), mtu, queues });
    const number = side === 'a' ? 1 : 2;
    ip('link', 'set', nameOf(side), 'netns', namespaceOf(side));
    ip('-n', namespaceOf(side), 'addr', 'add', `10.91.0.${number}/24`, 'dev', nameOf(side));
    ip('-n', namespaceOf(side), 'addr', 'add', `fd91::${number}/64`, 'dev', nameOf(side), 'nodad');
    ip('-n', namespaceOf(side), 'link', 'set', nameOf(side), 'up');
    return device;
  }

  async function open(side: Side, config: TunnelUpdate = {}, lane: LaneKind = 'linux', queues = 1): Promise<Tunnel> {
    const tunnel = await openDeviceTunnel({
      device: interfaceOf(side, 1420, queues),
      lane,
      config: { privateKey: privateKeys[side], ...config },
    });
    tunnel.events((event) => void events[side].push(event));
    tunnels[side] = tunnel;
    return tunnel;
  }

  interface PairOptions {
    readonly outer?: string;
    readonly suite?: CipherSuite;
    readonly lanes?: Readonly<Record<Side, LaneKind>>;
    readonly queues?: number;
  }

  /** Both sides; a knows where b is. */
  async function pair({
    outer = '127.0.0.1',
    suite = 'chacha20poly1305',
    lanes = { a: 'linux', b: 'linux' },
    queues = 1,
  }: PairOptions = {}): Promise<void> {
    const allowed = (side: Side): TunnelUpdate['peers'] & object => {
      const number = side === 'a' ? 1 : 2;
      const allowedIps = [`10.91.0.${number}/32`, `fd91::${number}/128`].map((text) => parsePrefix(text)!);
      return [{ publicKey: publicKeys[side], allowedIps, cipherSuite: suite }];
    };
    const b = await open('b', { peers: allowed('a') }, lanes.b, queues);
    const { listenPort } = await b.status();
    const endpoint: Endpoint = { address: parseAddress(outer)!, port: listenPort, scopeId: 0 };
    await open('a', { peers: [{ ...allowed('b')[0]!, endpoint }] }, lanes.a, queues);
  }

  const within = (
    side: Side,
    program: string,
    ...args: readonly string[]
  ): Promise<{ stdout: string; stderr: string }> =>
    run('ip', ['netns', 'exec', namespaceOf(side), program, ...args], { timeout: 20_000 });
  const ping = async (side: Side, to: string, ...args: readonly string[]): Promise<string> =>
    (await within(side, 'ping', '-c', '3', '-i', '0.1', '-W', '2', ...args, to)).stdout;

  /** Sends `megabytes` by TCP from one side to the other and compares what arrives. */
  async function transfer(from: Side, address: string, megabytes: number): Promise<void> {
    const receiver = `
      const hash = require('crypto').createHash('sha256');
      const server = require('net').createServer({ allowHalfOpen: true }, (s) => {
        s.on('data', (d) => hash.update(d)); s.on('end', () => { s.end(hash.digest('hex')); server.close(); });
      }).listen(7000, '::', () => console.error('ready'));`;
    const sender = `
      const crypto = require('crypto'); const hash = crypto.createHash('sha256');
      const s = require('net').connect({ port: 7000, host: '${address}', allowHalfOpen: true });
      let answer = ''; s.on('data', (d) => answer += d);
      s.on('end', () => console.log(answer === hash.digest('hex') ? 'same' : 'different'));
      (async () => { for (let i = 0; i < ${megabytes * 4}; i++) { const b = crypto.randomBytes(262144 + i % 7); hash.update(b);
        if (!s.write(b)) await new Promise((r) => s.once('drain', r)); } s.end(); })();`;
    const child = execFile('ip', ['netns', 'exec', namespaceOf(other(from)), 'node', '-e', receiver]);
    const ended = once(child, 'exit');
    await once(child.stderr!, 'data');
    expect((await within(from, 'node', '-e', sender)).stdout.trim()).toBe('same');
    await ended;
  }

  it.each([
    ['IPv4 outside', { outer: '127.0.0.1' }],
    ['IPv6 outside', { outer: '::1' }],
    ['AES-256-GCM', { suite: 'aes256gcm' }],
    ['the portable lane at the other end', { lanes: { a: 'linux', b: 'portable' } }],
    ['the portable lane as initiator', { lanes: { a: 'portable', b: 'linux' } }],
  ] as const)('carries IPv4 and IPv6, small and large: %s', async (_, options) => {
    await pair(options);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
    expect(await ping('b', 'fd91::1', '-s', '1372')).toContain(' 0% packet loss');
    expect(await ping('a', '10.91.0.2', '-s', '9000')).toContain(' 0% packet loss');
    await transfer('a', '10.91.0.2', 6);
    await transfer('b', 'fd91::1', 6);
    for (const side of SIDES) {
      const { drops } = (await tunnels[side]!.status()).device;
      expect([drops['bad-tag'], drops.replay, drops['bad-inner-packet'], drops['refused-source']]).toEqual([
        0, 0, 0, 0,
      ]);
    }
  });

  it('tells its state and obeys', async () => {
    await pair();
    await ping('a', '10.91.0.2');
    const status = await tunnels.a!.status();
    expect(status).toMatchObject({ kind: 'linux', mtu: 1420, up: true, fwmark: 0, name: nameOf('a') });
    expect(status.device.peers[0]!.sessions).toBe(1);
    expect(status.crypto).toMatch(/^native/);
    expect(await tunnels.a!.rekey()).toBe(1);
    await until(() => events.a.filter((event) => event.type === 'session').length === 2, 'a second session');
    const secrets = await tunnels.a!.secrets();
    expect(nobleCrypto.publicKey(secrets.privateKey!)).toEqual(publicKeys.a);
    await tunnels.a!.configure({ fwmark: 7 });
    expect((await tunnels.a!.status()).fwmark).toBe(7);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
    await tunnels.a!.configure({ listenPort: 0 });
    expect((await tunnels.a!.status()).listenPort).not.toBe(status.listenPort);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
  });

  it('refuses wrong changes as a whole', async () => {
    await pair();
    const before = await tunnels.a!.status();
    await expect(tunnels.a!.configure({ listenPort: 65_536 })).rejects.toThrow(RangeError);
    await expect(tunnels.a!.configure({ fwmark: -1 })).rejects.toThrow(RangeError);
    await expect(tunnels.a!.configure({ listenPort: 0, privateKey: new Uint8Array(31) })).rejects.toThrow(/privateKey/);
    const taken = createSocket('udp4').bind(0, '0.0.0.0');
    await once(taken, 'listening');
    const error = await tunnels
      .a!.configure({ listenPort: taken.address().port })
      .catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({
      message: expect.stringContaining('in use') as unknown,
      cause: { code: 'EADDRINUSE' },
    });
    taken.close();
    expect((await tunnels.a!.status()).listenPort).toBe(before.listenPort);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
  });

  it('answers from the address that was spoken to', async () => {
    await pair({ outer: '127.0.0.5' });
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
    const [peer] = (await tunnels.a!.status()).device.peers;
    expect([...peer!.endpoint!.address]).toEqual([127, 0, 0, 5]);
    expect(events.a.some((event) => event.type === 'roamed')).toBe(false);
    const [seen] = (await tunnels.b!.status()).device.peers;
    expect([...seen!.endpoint!.source!.address]).toEqual([127, 0, 0, 5]);
  });

  it('says so when no peer owns an address', async () => {
    await pair();
    const failed = async (to: string): Promise<string> =>
      ping('a', to).then(
        (output) => output,
        (error: { readonly stdout: string }) => error.stdout,
      );
    expect(await failed('10.91.0.77')).toContain('Destination Host Unreachable');
    expect(await failed('fd91::77')).toContain('Address unreachable');
    expect((await tunnels.a!.status()).device.drops['no-route']).toBeGreaterThanOrEqual(6);
  });

  it('is silent while the link is down and goes on when it is up again', async () => {
    await pair();
    await ping('a', '10.91.0.2');
    ip('-n', namespaceOf('a'), 'link', 'set', nameOf('a'), 'down');
    await until(async () => !(await tunnels.a!.status()).up, 'down');
    // Its port is another's to take meanwhile.
    const { listenPort } = await tunnels.a!.status();
    const taker = createSocket('udp4').bind(listenPort, '0.0.0.0');
    await once(taker, 'listening');
    taker.close();
    ip('-n', namespaceOf('a'), 'link', 'set', nameOf('a'), 'mtu', '1300');
    ip('-n', namespaceOf('a'), 'link', 'set', nameOf('a'), 'up');
    await until(async () => (await tunnels.a!.status()).up, 'up');
    expect((await tunnels.a!.status()).mtu).toBe(1300);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
  });

  it('ends in good order when the interface is deleted', async () => {
    await pair();
    await ping('a', '10.91.0.2');
    ip('-n', namespaceOf('a'), 'link', 'del', nameOf('a'));
    await until(() => events.a.some((event) => event.type === 'closed'), 'closed');
    expect(events.a.filter((event) => event.type === 'closed')).toEqual([{ type: 'closed' }]);
    await expect(tunnels.a!.status()).rejects.toThrow(/closed/);
  });

  it('stands garbage of every length and goes on', { timeout: 300_000 }, async () => {
    await pair();
    await ping('a', '10.91.0.2');
    const b = tunnels.b!;
    const { listenPort } = await b.status();
    // What the host of the namespace sends by itself has no route.
    const dropped = async (): Promise<number> => {
      const { 'no-route': _, ...drops } = (await b.status()).device.drops;
      return Object.values(drops).reduce((total, count) => total + count, 0);
    };
    const socket = createSocket('udp4');
    const send = promisify(
      socket.send.bind(socket) as (m: Uint8Array, p: number, a: string, done: (e: Error | null) => void) => void,
    );
    const before = await dropped();
    const noise = random(LONGEST_DATAGRAM);
    let ahead = 0;
    for (let length = 0; length <= LONGEST_DATAGRAM; length++) {
      const bytes = noise.subarray(0, length);
      if (length >= 4) bytes.set([(length % 5) + 1, 0, 0, 0]);
      await send(bytes, listenPort, '127.0.0.1');
      ahead += length;
      // No more at once than a socket holds: every one of them is to be read. The empty one counts for nothing.
      if (ahead < MOST_AHEAD && length < LONGEST_DATAGRAM) continue;
      ahead = 0;
      while ((await dropped()) - before < length) await new Promise((resolve) => setImmediate(resolve));
    }
    socket.close();
    expect((await dropped()) - before).toBe(LONGEST_DATAGRAM);
    expect(await ping('a', '10.91.0.2')).toContain(' 0% packet loss');
  });

  it('counts what it cannot send and does not spin', async () => {
    await pair();
    await ping('a', '10.91.0.2');
    const peer = {
      publicKey: publicKeys.b,
      endpoint: { address: Uint8Array.of(255, 255, 255, 255), port: 9, scopeId: 0 },
    };
    await tunnels.a!.configure({ peers: [peer] });
    const before = process.cpuUsage();
    await within('a', 'ping', '-c', '10', '-i', '0.05', '-W', '1', '10.91.0.2').catch(() => undefined);
    const used = process.cpuUsage(before);
    const { faults } = await tunnels.a!.status();
    expect(Object.keys(faults).some((name) => name.startsWith('send-failed'))).toBe(true);
    expect((used.user + used.system) / 1e6).toBeLessThan(1);
  });

  it('says why it cannot open, and leaves nothing behind then', async () => {
    const device = interfaceOf('a');
    await expect(openDeviceTunnel({ device, lane: 'linux', timestampFile: '/proc' })).rejects.toThrow(
      /\/proc: cannot read the handshake/,
    );
    expect(ip('-n', namespaceOf('a'), 'link')).not.toContain(nameOf('a'));
    const taken = createSocket('udp4').bind(0, '0.0.0.0');
    await once(taken, 'listening');
    await expect(open('a', { listenPort: taken.address().port })).rejects.toThrow(/is in use/);
    taken.close();
    await expect(open('a', { listenPort: 70_000 })).rejects.toThrow(RangeError);
  });

  it('runs a lane a queue and says so; the portable one keeps the first queue alone', async () => {
    const tunnel = await open('a', {}, 'linux', 3);
    const { lanes, notes } = await tunnel.status();
    expect(lanes).toHaveLength(3);
    expect(notes).toEqual([]);
    const again = await openDeviceTunnel({ device: interfaceOf('b', 1420, 3), lane: 'portable' });
    tunnels.b = again;
    expect((await again.status()).lanes).toBeUndefined();
  });

  it('counts each packet that a lane sends or receives, once', async () => {
    await pair({ queues: 3 });
    // The session stands, and its first packets, which waited for it, are lane 0's.
    await ping('a', '10.91.0.2');
    await ping('a', 'fd91::2');
    const sums = async (side: Side): Promise<{ sent: number; received: number }> => {
      const { lanes } = await tunnels[side]!.status();
      const sum = (of: (lane: LaneTraffic) => number): number => lanes!.reduce((total, lane) => total + of(lane), 0);
      return { sent: sum((lane) => lane.sent), received: sum((lane) => lane.received) };
    };
    const before = { a: await sums('a'), b: await sums('b') };
    // Of three pieces each: 5 flows of 3 requests.
    for (let flow = 0; flow < 5; flow++) await ping('a', '10.91.0.2', '-s', '4000');
    const after = { a: await sums('a'), b: await sums('b') };
    for (const side of SIDES) {
      expect(after[side].sent - before[side].sent).toBe(45);
      const received = after[side].received - before[side].received;
      expect(received).toBeGreaterThanOrEqual(45);
      // Keepalives, on a machine that takes its time.
      expect(received).toBeLessThan(60);
    }
  });

  it.each([1, 3])('leaves no descriptor behind when it cannot open, with lanes: %i', async (queues) => {
    const taken = createSocket('udp4').bind(0, '0.0.0.0');
    await once(taken, 'listening');
    const faults: readonly [object, RegExp][] = [
      [{ config: { listenPort: taken.address().port } }, /is in use/],
      [{ config: { listenPort: 70_000 } }, /listenPort/],
      [{ timestampFile: '/proc' }, /cannot read the handshake timestamp/],
    ];
    const counts: number[] = [];
    for (let round = 0; round < 4; round++) {
      for (const [options, said] of faults) {
        const device = interfaceOf('a', 1420, queues);
        await expect(openDeviceTunnel({ device, lane: 'linux', ...options })).rejects.toThrow(said);
      }
      counts.push(readdirSync('/proc/self/fd').length);
    }
    taken.close();
    // What the first round opens for good: Node's own.
    expect(Math.max(...counts.slice(1))).toBeLessThanOrEqual(counts[0]!);
    expect(ip('-n', namespaceOf('a'), 'link')).not.toContain(nameOf('a'));
  });

  it.each([1, 3])('leaves no descriptor and no interface behind, with lanes: %i', async (queues) => {
    const count = (): number => readdirSync('/proc/self/fd').length;
    await open('a', {}, 'linux', queues);
    await tunnels.a!.close();
    const before = count();
    for (let i = 0; i < 3; i++) {
      await open('a', {}, 'linux', queues);
      await tunnels.a!.close();
    }
    expect(count()).toBeLessThanOrEqual(before);
    expect(ip('-n', namespaceOf('a'), 'link')).not.toContain(nameOf('a'));
  });
});
