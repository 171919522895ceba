/** What `wg` and other programs on the control socket may ask for, also while packets flow, and what the packets then do. */
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import {
  control,
  INNER,
  keyPair,
  missingFor,
  OUTER,
  PAIRS,
  ping,
  WireguardDevice,
  wireguardPair,
} from '../support/wireguard.ts';
import type { Implementation } from '../support/wireguard.ts';

const OURS: readonly Implementation[] = ['sealane', 'sealane portable'];
const ZERO_KEY = Buffer.alloc(32).toString('base64');
/** Points of small order on Curve25519; the topmost bit of a key does not count (RFC 7748 section 5). */
const LOW_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '0100000000000000000000000000000000000000000000000000000000000080',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
].map((hex) => Buffer.from(hex, 'hex').toString('base64'));

describe.for(PAIRS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping');

  it('takes a new private key in use', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, aKeys } = await wireguardPair(lab, implementations, { bothEndpoints: true });
    expect((await ping(a.host, INNER.b4, { count: 2 })).received).toBe(2);
    const fresh = await keyPair();
    await a.wg('set', a.name, 'private-key', await lab.file('fresh.key', fresh.privateKey));
    expect((await ping(a.host, INNER.b4, { count: 2, extra: ['-w', '2'] })).received).toBe(0);
    await b.wg('set', b.name, 'peer', aKeys.publicKey, 'remove');
    await b.wg(
      'set',
      b.name,
      'peer',
      fresh.publicKey,
      'endpoint',
      `${OUTER.a4}:51001`,
      'allowed-ips',
      `${INNER.a4}/32`,
    );
    expect((await ping(b.host, INNER.a4, { count: 5, interval: 0.2 })).received).toBe(5);
    expect((await ping(a.host, INNER.b4, { count: 5 })).received).toBe(5);
  });

  it('takes a new private key on both sides again and again under traffic', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, aKeys, bKeys } = await wireguardPair(lab, implementations, { bothEndpoints: true });
    const traffic = ping(a.host, INNER.b4, { count: 100, interval: 0.02 });
    let [ofA, ofB] = [aKeys.publicKey, bKeys.publicKey];
    for (let i = 0; i < 6; i++) {
      const [nextA, nextB] = [await keyPair(), await keyPair()];
      for (const [device, fresh, old, implementation] of [
        [a, nextA, ofB, implementations[0]],
        [b, nextB, ofA, implementations[1]],
      ] as const) {
        const key = await lab.file(`${device.name}.key`, fresh.privateKey);
        const steps = [
          ['private-key', key],
          ['peer', old, 'remove'],
        ];
        // wireguard-go locks up for good when its key changes at the moment a response comes in: SetPrivateKey and ConsumeMessageResponse
        // take the locks of identity and handshake in opposite orders. Without a peer it cannot.
        if (implementation === 'wireguard-go') steps.reverse();
        for (const step of steps) await device.wg('set', device.name, ...step);
      }
      [ofA, ofB] = [nextA.publicKey, nextB.publicKey];
      await b.wg('set', b.name, 'peer', ofA, 'endpoint', `${OUTER.a4}:51001`, 'allowed-ips', `${INNER.a4}/32`);
      await a.wg('set', a.name, 'peer', ofB, 'endpoint', `${OUTER.b4}:51002`, 'allowed-ips', `${INNER.b4}/32`);
    }
    await traffic;
    await until('the last keys to work', async () => (await ping(a.host, INNER.b4, { count: 1 })).received === 1);
    expect((await ping(b.host, INNER.a4, { count: 5 })).received).toBe(5);
  });
});

describe.for(OURS)('%s between two peers', (implementation) => {
  const reason = missingFor([implementation], 'ping');

  it('moves a prefix from peer to peer, both ways, and answers for addresses that no peer has', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const [hub, left, right] = [await lab.host('h'), await lab.host('l'), await lab.host('r')];
    await lab.join(hub, 'hl', ['192.168.1.1/24'], left, 'vl', ['192.168.1.2/24']);
    await lab.join(hub, 'hr', ['192.168.2.1/24'], right, 'vr', ['192.168.2.2/24']);
    const [hubKeys, leftKeys, rightKeys] = [await keyPair(), await keyPair(), await keyPair()];
    const ofHub = { publicKey: hubKeys.publicKey, allowedIps: ['10.77.0.1/32', 'fd77::1/128'] };
    const devices = [
      await WireguardDevice.start(lab, hub, implementation, 'h', {
        keys: hubKeys,
        port: 51001,
        addresses: ['10.77.0.1/24', 'fd77::1/64'],
        peers: [
          {
            publicKey: leftKeys.publicKey,
            endpoint: '192.168.1.2:51002',
            allowedIps: ['10.77.0.2/32', '10.78.0.0/16'],
          },
          { publicKey: rightKeys.publicKey, endpoint: '192.168.2.2:51003', allowedIps: ['10.77.0.3/32'] },
        ],
      }),
      await WireguardDevice.start(lab, left, implementation, 'l', {
        keys: leftKeys,
        port: 51002,
        addresses: ['10.77.0.2/24', '10.78.5.5/32'],
        peers: [{ ...ofHub, endpoint: '192.168.1.1:51001' }],
      }),
      await WireguardDevice.start(lab, right, implementation, 'r', {
        keys: rightKeys,
        port: 51003,
        addresses: ['10.77.0.3/24', '10.78.5.5/32'],
        peers: [{ ...ofHub, endpoint: '192.168.2.1:51001' }],
      }),
    ] as const;
    const [device, leftDevice, rightDevice] = devices;
    const sentTo = async (publicKey: string): Promise<number> => (await device.transfer(publicKey)).tx;

    for (const target of ['10.77.0.2', '10.77.0.3']) expect((await ping(hub, target, { count: 1 })).received).toBe(1);
    const before = [await sentTo(leftKeys.publicKey), await sentTo(rightKeys.publicKey)];
    expect((await ping(hub, '10.78.5.5', { count: 5 })).received).toBe(5);
    expect(await sentTo(leftKeys.publicKey)).toBeGreaterThanOrEqual(before[0]! + 5 * 128);
    expect(await sentTo(rightKeys.publicKey)).toBeLessThanOrEqual(before[1]! + 32);

    // A longer prefix wins, then the same prefix moves.
    for (const prefix of ['10.78.5.0/24', '10.78.0.0/16']) {
      await device.wg('set', device.name, 'peer', rightKeys.publicKey, 'allowed-ips', '10.77.0.3/32');
      await device.wg('set', device.name, 'peer', leftKeys.publicKey, 'allowed-ips', '10.77.0.2/32,10.78.0.0/16');
      expect((await ping(leftDevice.host, '10.77.0.1', { count: 2, extra: ['-I', '10.78.5.5'] })).received).toBe(2);
      await device.wg('set', device.name, 'peer', rightKeys.publicKey, 'allowed-ips', `10.77.0.3/32,${prefix}`);
      const moved = [await sentTo(leftKeys.publicKey), await sentTo(rightKeys.publicKey)];
      expect((await ping(hub, '10.78.5.5', { count: 5 })).received).toBe(5);
      expect(await sentTo(leftKeys.publicKey)).toBeLessThanOrEqual(moved[0]! + 32);
      expect(await sentTo(rightKeys.publicKey)).toBeGreaterThanOrEqual(moved[1]! + 5 * 128);
      const back = { count: 2, extra: ['-I', '10.78.5.5'] };
      expect((await ping(rightDevice.host, '10.77.0.1', back)).received).toBe(2);
      expect((await ping(leftDevice.host, '10.77.0.1', { ...back, extra: [...back.extra, '-w', '1'] })).received).toBe(
        0,
      );
    }
    const allowed = await device.wg('show', device.name, 'allowed-ips');
    expect(allowed).toContain(`${leftKeys.publicKey}\t10.77.0.2/32\n`);
    expect(allowed).toContain(`${rightKeys.publicKey}\t10.77.0.3/32 10.78.0.0/16\n`);

    // Addresses that are routed here but that no peer owns, or whose peer has no endpoint yet.
    await device.wg(
      'set',
      device.name,
      'peer',
      (await keyPair()).publicKey,
      'allowed-ips',
      '10.77.0.98/32,fd77::98/128',
    );
    for (const target of ['10.77.0.99', 'fd77::99', '10.77.0.98', 'fd77::98']) {
      const refused = await hub.run('ping', ['-n', '-c', '2', '-i', '0.2', '-w', '2', target]);
      expect(refused.stdout).toMatch(/unreachable/i);
      expect(refused.stdout).toMatch(/ 0 received, \+\d errors/);
    }
  });
});

describe.for(OURS)('%s alone', (implementation) => {
  const reason = missingFor([implementation], 'ping');

  it('deals with keys at the edge: none, zero, its own, of low order', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const device = await WireguardDevice.open(lab, host, implementation, 'a');
    const [own, other] = [await keyPair(), await keyPair()];
    const keyFile = await lab.file('own.key', own.privateKey);
    const show = async (what: string): Promise<string> => (await device.wg('show', device.name, what)).trim();
    const set = (...args: readonly string[]): Promise<string> => device.wg('set', device.name, ...args);

    expect(await show('private-key')).toBe('(none)');
    await set('private-key', keyFile, 'peer', other.publicKey, 'allowed-ips', '10.77.0.2/32');
    expect(await show('public-key')).toBe(own.publicKey);
    await set('private-key', await lab.file('zero.key', ZERO_KEY));
    expect(await show('private-key')).toBe('(none)');
    expect(await show('public-key')).toBe('(none)');
    expect(await show('peers')).toBe(other.publicKey);

    // Its own key is no peer: not added, and removed when it becomes its own.
    await set('private-key', keyFile);
    await set('peer', own.publicKey, 'allowed-ips', '10.77.0.9/32');
    expect(await show('peers')).toBe(other.publicKey);
    await set('private-key', await lab.file('other.key', other.privateKey));
    expect(await show('peers')).toBe('');

    await host.must('ip', ['addr', 'add', '10.77.0.1/24', 'dev', device.name]);
    await host.must('ip', ['link', 'set', 'up', 'dev', device.name]);
    for (const [i, key] of LOW_ORDER.entries()) {
      await set(
        'peer',
        key,
        'allowed-ips',
        `10.77.0.${i + 10}/32`,
        'endpoint',
        `127.0.0.1:${9000 + i}`,
        'persistent-keepalive',
        '1',
      );
    }
    await Promise.all(LOW_ORDER.map((_, i) => ping(host, `10.77.0.${i + 10}`, { count: 2, extra: ['-w', '2'] })));
    expect(new Set((await show('peers')).split('\n'))).toEqual(new Set(LOW_ORDER));
    expect(await show('transfer')).toBe((await show('peers')).replaceAll(/$/gm, '\t0\t0'));
    expect(device.process.child.exitCode).toBeNull();
  });

  it('keeps ports and keepalives within their bounds', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const device = await WireguardDevice.open(lab, host, implementation, 'a');
    const peer = await keyPair();
    await host.must('ip', ['link', 'set', 'up', 'dev', device.name]);
    for (const port of ['1', '65535']) {
      await device.wg('set', device.name, 'listen-port', port, 'peer', peer.publicKey, 'endpoint', `127.0.0.1:${port}`);
      await until(
        `port ${port} to be open`,
        async () => (await device.wg('show', device.name, 'listen-port')) === `${port}\n`,
      );
      expect(await device.endpoint()).toBe(`127.0.0.1:${port}`);
    }
    const keepalive = async (): Promise<string | undefined> =>
      (await device.wg('show', device.name, 'persistent-keepalive')).trim().split('\t')[1];
    for (const [given, shown] of [
      ['1', '1'],
      ['65535', '65535'],
      ['0', 'off'],
      ['25', '25'],
      ['off', 'off'],
    ] as const) {
      await device.wg('set', device.name, 'peer', peer.publicKey, 'persistent-keepalive', given);
      expect(await keepalive()).toBe(shown);
    }
    const hex = Buffer.from(peer.publicKey, 'base64').toString('hex');
    for (const line of [
      'listen_port=65536',
      'listen_port=-1',
      'fwmark=4294967296',
      `public_key=${hex}\npersistent_keepalive_interval=65536`,
      `public_key=${hex}\npersistent_keepalive_interval=-1`,
      `public_key=${hex}\nendpoint=127.0.0.1:65536`,
      `public_key=${hex}\nendpoint=127.0.0.1:-1`,
      `public_key=${hex}\nallowed_ip=10.0.0.0/33`,
    ]) {
      const answer = await control(device.socketPath, [`set=1\n${line}\n\n`]);
      expect(`${line}: ${answer}`).toMatch(/errno=-?[1-9]\d*\n\n$/);
    }
    expect(await device.wg('show', device.name, 'listen-port')).toBe('65535\n');
    expect(await keepalive()).toBe('off');
    expect(await device.endpoint()).toBe('127.0.0.1:65535');
  });

  it('takes an operation in pieces, however they are cut', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const device = await WireguardDevice.open(lab, host, implementation, 'a');
    const [own, peer] = [await keyPair(), await keyPair()];
    const hex = (key: string): string => Buffer.from(key, 'base64').toString('hex');
    const operation =
      `set=1\nprivate_key=${hex(own.privateKey)}\nlisten_port=51001\npublic_key=${hex(peer.publicKey)}\n` +
      'allowed_ip=10.77.0.2/32\nallowed_ip=fd77::2/128\nendpoint=[fd99::2]:51002\n\n';
    const cuts = [1, 7, 64, operation.length - 1].map((size) =>
      Array.from({ length: Math.ceil(operation.length / size) }, (_, i) => operation.slice(i * size, (i + 1) * size)),
    );
    for (const pieces of cuts) {
      await device.wg('set', device.name, 'private-key', '/dev/null', 'peer', peer.publicKey, 'remove');
      expect(await control(device.socketPath, pieces)).toBe('errno=0\n\n');
      expect(await device.wg('show', device.name, 'public-key')).toBe(`${own.publicKey}\n`);
      expect(await device.endpoint()).toBe('[fd99::2]:51002');
      expect(await device.wg('show', device.name, 'allowed-ips')).toBe(`${peer.publicKey}\t10.77.0.2/32 fd77::2/128\n`);
    }
  });
});

describe.for(PAIRS)('%s with 130,560 allowed IPs, %s answers', (implementations) => {
  it('takes them in one operation and routes by them', async ({ skip }) => {
    const reason = missingFor(implementations, 'ping');
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations);
    const prefixes: string[] = [];
    for (let i = 1; i < 256; i++) {
      for (let j = 0; j < 256; j++)
        prefixes.push(`10.${i}.${j}.0/24`, `fd00:${i.toString(16)}:1${j.toString(16)}::/48`);
    }
    expect(prefixes).toHaveLength(130_560);
    prefixes.push(`${INNER.b4}/32`, `${INNER.b6}/128`);
    const lines = ['[Peer]', `PublicKey = ${bKeys.publicKey}`, `Endpoint = ${OUTER.b4}:51002`];
    for (let i = 0; i < prefixes.length; i += 128) lines.push(`AllowedIPs = ${prefixes.slice(i, i + 128).join(', ')}`);
    await a.wg('addconf', a.name, await lab.file('many.conf', `${lines.join('\n')}\n`));
    const shown = new Set((await a.wg('show', a.name, 'allowed-ips')).trim().split(/\s/).slice(1));
    expect(shown.size).toBe(prefixes.length);
    expect(prefixes.filter((prefix) => !shown.has(prefix))).toEqual([]);
    await b.host.must('ip', ['addr', 'add', '10.254.255.9/32', 'dev', b.name]);
    await a.host.must('ip', ['route', 'add', '10.0.0.0/8', 'dev', a.name]);
    expect((await ping(a.host, '10.254.255.9', { count: 3 })).received).toBe(3);
    expect((await ping(a.host, INNER.b6, { count: 3 })).received).toBe(3);
  });
});
