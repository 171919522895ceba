/** What a configuration may say, what it may not, and what becomes of sessions when it changes. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { generator } from '../../../test/sim/random.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { World, outer, statusOf } from '../../../test/sim/world.ts';
import { checkUpdate, peersAfter } from '../src/configure.ts';
import type { CipherSuite } from '../src/crypto.ts';
import { keyId } from '../src/keys.ts';
import type { DeviceUpdate, PeerUpdate, PeerStatus } from '../src/model.ts';
import { isZero } from './support/bytes.ts';
import { connected, Host } from './support/host.ts';
import { SECOND } from './support/spec.ts';

const random = generator(77);
const KEY = random.bytes(32);
const bytes = (length: number): Uint8Array => new Uint8Array(length);
const peer = (more: Partial<PeerUpdate>): DeviceUpdate => ({ peers: [{ publicKey: KEY, ...more }] });
const at = (address: Uint8Array, port = 1): DeviceUpdate => peer({ endpoint: { address, port, scopeId: 0 } });
const owning = (address: Uint8Array, length: number): DeviceUpdate => peer({ allowedIps: [{ address, length }] });

function pair(seed: number, both: Partial<PeerUpdate> = {}): readonly [World, Node, Node] {
  const world = new World({ seed, crypto: toyCrypto });
  return [world, ...world.pair(both)];
}

describe('a configuration', () => {
  it.each<[string, string, DeviceUpdate]>([
    ['a short private key', 'privateKey', { privateKey: bytes(31) }],
    ['an MTU of 65,536', 'mtu', { mtu: 65_536 }],
    ['an MTU of -1', 'mtu', { mtu: -1 }],
    ['half an MTU', 'mtu', { mtu: 1_280.5 }],
    ['a long public key', 'peers[1].publicKey must have 32 bytes', { peers: [{ publicKey: bytes(33) }] }],
    ['a short preshared key', 'presharedKey', peer({ presharedKey: bytes(1) })],
    ['a keepalive of 65,536 s', 'persistentKeepalive', peer({ persistentKeepalive: 65_536 })],
    ['a keepalive of -1 s', 'persistentKeepalive', peer({ persistentKeepalive: -1 })],
    ['a rekey interval of 120.001 s', 'rekeyInterval', peer({ rekeyInterval: 120_001 })],
    ['a rekey interval of 9.999 s', 'rekeyInterval', peer({ rekeyInterval: 9_999 })],
    ['a post-quantum interval of 1 ms', 'postQuantum', peer({ postQuantum: 1 })],
    [
      'an unknown cipher',
      'cipherSuite must be one of chacha20poly1305, aes256gcm',
      peer({ cipherSuite: 'rot13' as CipherSuite }),
    ],
    ['port 0', 'endpoint.port must be an integer from 1 to 65535', peer({ endpoint: outer(1, 0) })],
    ['port 65,536', 'endpoint.port', peer({ endpoint: outer(1, 65_536) })],
    ['an endpoint of 5 bytes', 'endpoint.address must have 4 or 16 bytes', at(bytes(5))],
    ['a prefix of 8 bytes', 'allowedIps[0].address', owning(bytes(8), 8)],
    ['a /33', 'allowedIps[0].length', owning(bytes(4), 33)],
    ['a /129', 'allowedIps[0].length', owning(bytes(16), 129)],
    ['a /-1', 'allowedIps[0].length', owning(bytes(4), -1)],
  ])('is refused with %s, by name, and nothing of it applied', (_, name, update) => {
    const [, a] = pair(1);
    const before = a.device.status(a.now);
    const peers = [{ publicKey: random.bytes(32), endpoint: outer(8) }, ...(update.peers ?? [])];
    const refused = (): void => a.configure({ mtu: 1_000, replacePeers: true, ...update, peers });
    expect(refused).toThrow(RangeError);
    expect(refused).toThrow(name);
    expect(a.device.status(a.now)).toEqual(before);
    expect(isZero(a.device.secrets().privateKey!)).toBe(false);
  });

  it.each<[string, DeviceUpdate, Partial<PeerStatus>]>([
    ['the smallest MTU', { mtu: 0 }, {}],
    ['the largest MTU', { mtu: 65_535 }, {}],
    ['keepalives off', peer({ persistentKeepalive: 0 }), { persistentKeepalive: 0 }],
    ['the longest keepalive', peer({ persistentKeepalive: 65_535 }), { persistentKeepalive: 65_535 }],
    ['the longest rekey interval', peer({ rekeyInterval: 120_000 }), { rekeyInterval: 120_000 }],
    ['the shortest rekey interval', peer({ rekeyInterval: 10_000 }), { rekeyInterval: 10_000 }],
    ['the other cipher', peer({ cipherSuite: 'aes256gcm' }), { cipherSuite: 'aes256gcm' }],
    ['the lowest port', at(bytes(4), 1), { endpoint: { address: bytes(4), port: 1, scopeId: 0 } }],
    ['the highest port', at(bytes(16), 65_535), { endpoint: { address: bytes(16), port: 65_535, scopeId: 0 } }],
    ['0.0.0.0/0', owning(bytes(4), 0), { allowedIps: [{ address: bytes(4), length: 0 }] }],
    ['one IPv6 address', owning(bytes(16), 128), { allowedIps: [{ address: bytes(16), length: 128 }] }],
    ['a preshared key', peer({ presharedKey: KEY }), { hasPresharedKey: true }],
    ['no preshared key', peer({ presharedKey: bytes(32) }), { hasPresharedKey: false }],
  ])('may have %s', (_, update, expected) => {
    const [, a] = pair(2);
    a.configure(update);
    const found = a.device.status(a.now).peers.find(({ publicKey }) => publicKey[0] === KEY[0]);
    if (update.peers !== undefined) expect(found).toMatchObject(expected);
    expect(a.device.status(a.now).peers.length).toBe(update.peers === undefined ? 1 : 2);
  });

  it('with another cipher ends the sessions of the old one, with the same one none', () => {
    const [world, a, b] = pair(3);
    world.ping(a, b);
    world.run(SECOND);
    a.configure({ peers: [{ publicKey: b.publicKey, cipherSuite: 'chacha20poly1305' }] });
    expect(statusOf(a, b).session).toBeDefined();
    a.configure({ peers: [{ publicKey: b.publicKey, cipherSuite: 'aes256gcm' }] });
    expect([statusOf(a, b).session, statusOf(a, b).cipherSuite]).toEqual([undefined, 'aes256gcm']);
    b.configure({ peers: [{ publicKey: a.publicKey, cipherSuite: 'aes256gcm' }] });
    expect(world.ping(a, b, 2)).toBe('consumed');
    world.run(6 * SECOND);
    expect(b.delivered.length).toBe(2);
  });

  it('with another cipher leaves an exchange under way to wait for the next session', () => {
    const [world, a, b] = pair(8, { postQuantum: 3_600_000 });
    world.network.filter = ({ from, bytes }) => from !== 'b' || bytes.length !== 1_136;
    a.rekey();
    world.run(SECOND);
    for (const [node, other] of [
      [a, b],
      [b, a],
    ] as const) {
      node.configure({ peers: [{ publicKey: other.publicKey, cipherSuite: 'aes256gcm' }] });
    }
    const sent = world.log.entries.length;
    world.run(6 * SECOND);
    expect(world.log.entries.length).toBe(sent);
    world.network.filter = () => true;
    world.ping(a, b);
    world.run(10 * SECOND);
    expect([statusOf(a, b).session?.hedged, statusOf(b, a).session?.hedged]).toEqual([true, true]);
  });

  it('with another rekey interval moves the renewal of a session that is ours to renew', () => {
    const [world, a, b] = pair(4);
    const change = (node: Node, other: Node): void =>
      node.configure({ peers: [{ publicKey: other.publicKey, rekeyInterval: 10_000 }] });
    change(a, b);
    a.configure({ peers: [{ publicKey: b.publicKey, rekeyInterval: 60_000 }] });
    world.ping(a, b);
    world.run(SECOND);
    expect([statusOf(a, b).session?.rekeyInMs, statusOf(b, a).session?.rekeyInMs]).toEqual([59_000, undefined]);
    change(a, b);
    change(b, a);
    expect([statusOf(a, b).session?.rekeyInMs, statusOf(b, a).session?.rekeyInMs]).toEqual([9_000, undefined]);
    world.run(20 * SECOND);
    expect(statusOf(a, b).session?.rekeyInMs).toBe(0);
  });

  it('with the same preshared key keeps what was derived under it, with another voids that', () => {
    const [world, a, b] = pair(5, { presharedKey: KEY, postQuantum: 3_600_000 });
    a.rekey();
    world.run(SECOND);
    expect([statusOf(a, b).session?.hedged, statusOf(a, b).postQuantum?.exchanges]).toEqual([true, 1]);
    const age = (): number | undefined => statusOf(a, b).postQuantum?.keyAgeMs;
    expect(age()).toBeLessThanOrEqual(SECOND);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey: KEY.slice() }] });
    expect(age()).toBeLessThanOrEqual(SECOND);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey: random.bytes(32) }] });
    expect(age()).toBeUndefined();
  });

  it('turns the post-quantum exchange on, changes its interval, and turns it off', () => {
    const [world, a, b] = pair(6);
    a.rekey();
    world.run(SECOND);
    const set = (postQuantum: number): void => {
      a.configure({ peers: [{ publicKey: b.publicKey, postQuantum }] });
      b.configure({ peers: [{ publicKey: a.publicKey, postQuantum }] });
    };
    expect(statusOf(a, b).postQuantum).toBeUndefined();
    set(10_000);
    world.run(SECOND);
    expect(statusOf(a, b)).toMatchObject({
      session: { hedged: true },
      postQuantum: { interval: 10_000, exchanges: 1 },
    });
    const { keyAgeMs } = statusOf(a, b).postQuantum!;
    set(86_400_000);
    world.run(SECOND);
    // With the key that there was.
    expect(statusOf(a, b).postQuantum).toEqual({ interval: 86_400_000, exchanges: 1, keyAgeMs: keyAgeMs! + SECOND });
    set(0);
    expect(statusOf(a, b).postQuantum).toBeUndefined();
    set(0);
    expect(world.ping(a, b)).toBe('send');
  });

  it('turns the exchange on: who began the session begins it at once, nobody else does', () => {
    const [began, answered] = connected();
    for (const [host, other] of [
      [began, answered],
      [answered, began],
    ] as const) {
      host.peer({ publicKey: other.publicKey, postQuantum: 3_600_000 });
      expect(host.device.nextDeadline().why).toBe(host === began ? 'exchange' : 'send-keepalive');
    }
    const lone = new Host();
    lone.peer({ postQuantum: 3_600_000 });
    expect(lone.device.nextDeadline().why).toBe('idle');
  });
});

describe('the number of peers', () => {
  const key = (fill: number): Uint8Array => bytes(32).fill(fill);
  const add = (fill: number): PeerUpdate => ({ publicKey: key(fill) });
  const remove = (fill: number): PeerUpdate => ({ publicKey: key(fill), remove: true });
  const change = (fill: number): PeerUpdate => ({ publicKey: key(fill), updateOnly: true });
  const known = new Map([1, 2, 3].map((fill) => [keyId(key(fill)), undefined]));

  it.each<[number, string, DeviceUpdate]>([
    [3, 'nothing', {}],
    [0, 'none in their place', { replacePeers: true }],
    [3, 'those that there are', { peers: [add(1), add(1), change(2)] }],
    [4, 'a new one, twice', { peers: [add(4), add(4)] }],
    [3, 'one that is not there to be changed', { peers: [change(4)] }],
    [3, 'one that is not there to be removed', { peers: [remove(4)] }],
    [2, 'one that is removed, twice', { peers: [remove(1), remove(1)] }],
    [3, 'one for another', { peers: [add(4), remove(1)] }],
    [3, 'one that comes and goes', { peers: [add(4), remove(4)] }],
    [3, 'one that goes and comes', { peers: [remove(1), add(1)] }],
    [2, 'one that goes and would be changed', { peers: [remove(1), change(1)] }],
    [4, 'one that comes and is changed', { peers: [add(4), change(4)] }],
    [2, 'two in their place', { replacePeers: true, peers: [add(1), add(4)] }],
    [2, 'those that stay, because they are changed', { replacePeers: true, peers: [change(1), change(2), change(4)] }],
    [1, 'one that stays and one that goes', { replacePeers: true, peers: [add(1), remove(2)] }],
  ])('is %d, where it was 3, after %s', (count, _, update) => {
    expect(peersAfter(update, known)).toBe(count);
    const [, a] = pair(7);
    a.configure({ replacePeers: true, peers: [1, 2, 3].map((fill) => add(fill)) });
    a.configure(update);
    expect(a.device.status(a.now).peers.length).toBe(count);
  });

  it('is 65,536 at most', () => {
    const most = new Map(Array.from({ length: 65_535 }, (_, i) => [`${i}`, undefined]));
    checkUpdate(peer({}), most);
    most.set('another', undefined);
    checkUpdate({}, most);
    expect(() => checkUpdate(peer({}), most)).toThrow(new RangeError('peers must not be more than 65536'));
  });
});
