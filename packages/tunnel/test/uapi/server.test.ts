import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, lstat, mkdir, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { keyId, nobleCrypto } from '@sealane/protocol';
import {
  ControlError,
  controlPath,
  formatPrefix,
  memoryPair,
  openTunnel,
  readStatus,
  requestConfigure,
  requestControl,
  requestRekey,
  requestReload,
  requestShutdown,
  serveControl,
} from '@sealane/tunnel';
import { MAX_LINE } from '../../src/uapi/server.ts';
import { identity, loopback } from '../support/tunnels.ts';
import { ask, Conversation, serveTunnel, temporaryFolder } from './support.ts';

const alice = identity();
const bob = identity();
const carol = identity();
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const BOB = `public_key=${hex(bob.publicKey)}\n`;
const CAROL = `public_key=${hex(carol.publicKey)}\n`;
const OK = 'errno=0\n\n';
const INVALID = 'errno=-22\n\n';
const PROTOCOL = 'errno=-71\n\n';

describe('get and set', () => {
  it('answers an empty device', async () => {
    await using served = await serveTunnel();
    const { listenPort } = await served.tunnel.status();
    expect(await ask(served.path, 'get=1\n\n')).toBe(listenPort === 0 ? OK : `listen_port=${listenPort}\n${OK}`);
  });

  it('sets everything and shows it in the order of wireguard-go', async () => {
    await using served = await serveTunnel();
    const request = `set=1
private_key=${hex(alice.privateKey)}
replace_peers=true
${BOB}preshared_key=${'7'.repeat(64)}
protocol_version=1
endpoint=127.9.9.9:51820
persistent_keepalive_interval=0
replace_allowed_ips=true
allowed_ip=10.0.0.1/24
allowed_ip=fd00::1/64
${CAROL}endpoint=[fe80::1%lo]:51821

`;
    expect(await ask(served.path, request)).toBe(OK);
    const answer = await ask(served.path, 'get=1\n\n');
    expect(answer.replace(/listen_port=\d+\n/, '')).toBe(`private_key=${hex(alice.privateKey)}
${BOB}preshared_key=${'7'.repeat(64)}
protocol_version=1
endpoint=127.9.9.9:51820
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
allowed_ip=10.0.0.0/24
allowed_ip=fd00::/64
${CAROL}preshared_key=${'0'.repeat(64)}
protocol_version=1
endpoint=[fe80::1%1]:51821
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

`);
  });

  it('changes only what is named, moves prefixes between peers and takes them away', async () => {
    await using served = await serveTunnel();
    const conversation = await Conversation.open(served.path);
    const allowed = async (): Promise<string[][]> =>
      (await served.tunnel.status()).device.peers.map((peer) => peer.allowedIps.map(formatPrefix));
    expect(await conversation.ask(`set=1\n${BOB}allowed_ip=10.0.0.0/8\nallowed_ip=10.1.0.0/16\n${CAROL}\n`)).toBe(OK);
    expect(await allowed()).toEqual([['10.0.0.0/8', '10.1.0.0/16'], []]);
    expect(await conversation.ask(`set=1\n${CAROL}allowed_ip=10.1.99.99/16\n\n`)).toBe(OK);
    expect(await allowed()).toEqual([['10.0.0.0/8'], ['10.1.0.0/16']]);
    expect(await conversation.ask(`set=1\n${BOB}allowed_ip=-10.1.0.0/16\nallowed_ip=-10.0.0.0/8\n\n`)).toBe(OK);
    expect(await allowed()).toEqual([[], ['10.1.0.0/16']]);
    expect(
      await conversation.ask(`set=1\n${CAROL}allowed_ip=1.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=2.0.0.0/8\n\n`),
    ).toBe(OK);
    expect(await allowed()).toEqual([[], ['2.0.0.0/8']]);
    conversation.close();
  });

  it('removes, updates only what exists, and ignores the own key', async () => {
    await using served = await serveTunnel();
    const keys = async (): Promise<string[]> =>
      (await served.tunnel.status()).device.peers.map((peer) => keyId(peer.publicKey));
    expect(await ask(served.path, `set=1\n${BOB}update_only=true\nallowed_ip=10.0.0.0/8\n\n`)).toBe(OK);
    expect(await keys()).toEqual([]);
    const own = `public_key=${hex(alice.publicKey)}\nallowed_ip=10.0.0.0/8\n`;
    expect(await ask(served.path, `set=1\nprivate_key=${hex(alice.privateKey)}\n${own}${BOB}${CAROL}\n`)).toBe(OK);
    expect(await keys()).toEqual([keyId(bob.publicKey), keyId(carol.publicKey)]);
    expect(await ask(served.path, `set=1\n${BOB}remove=true\nallowed_ip=10.0.0.0/8\n\n`)).toBe(OK);
    expect(await keys()).toEqual([keyId(carol.publicKey)]);
    expect(await ask(served.path, `set=1\nreplace_peers=true\n${BOB}\n`)).toBe(OK);
    expect(await keys()).toEqual([keyId(bob.publicKey)]);
  });

  it('makes a peer new that comes again after replace_peers', async () => {
    await using served = await serveTunnel();
    await ask(served.path, `set=1\n${BOB}preshared_key=${'7'.repeat(64)}\nallowed_ip=10.0.0.0/8\n\n`);
    await ask(served.path, `set=1\nreplace_peers=true\n${BOB}allowed_ip=10.1.0.0/16\n${BOB}allowed_ip=10.2.0.0/16\n\n`);
    const [peer] = (await served.tunnel.status()).device.peers;
    expect(peer?.hasPresharedKey).toBe(false);
    expect(peer?.allowedIps.map(formatPrefix)).toEqual(['10.1.0.0/16', '10.2.0.0/16']);
  });

  it("takes Sealane's own peer keys", async () => {
    await using served = await serveTunnel();
    expect(
      await ask(served.path, `set=1\n${BOB}rekey_interval_ms=30000\ncipher_suite=aes256gcm\npost_quantum_ms=60000\n\n`),
    ).toBe(OK);
    const [peer] = (await served.tunnel.status()).device.peers;
    expect(peer).toMatchObject({
      rekeyInterval: 30_000,
      cipherSuite: 'aes256gcm',
      postQuantum: { interval: 60_000, exchanges: 0 },
    });
    await ask(served.path, `set=1\n${BOB}post_quantum_ms=0\n\n`);
    expect((await served.tunnel.status()).device.peers[0]?.postQuantum).toBeUndefined();
  });

  it.each([
    ['nonsense', PROTOCOL],
    ['frobnicate=1', INVALID],
    ['public_key=00', INVALID],
    [`private_key=${'0'.repeat(63)}g`, INVALID],
    [`private_key=${'0'.repeat(66)}`, INVALID],
    ['listen_port=65536', INVALID],
    ['listen_port=-1', INVALID],
    ['listen_port=', INVALID],
    ['fwmark=4294967296', INVALID],
    ['fwmark=0x10', INVALID],
    ['replace_peers=false', INVALID],
    ['allowed_ip=10.0.0.0/8', INVALID],
    [`${BOB}allowed_ip=10.0.0.0`, INVALID],
    [`${BOB}allowed_ip=10.0.0.0/33`, INVALID],
    [`${BOB}allowed_ip=010.0.0.0/8`, INVALID],
    [`${BOB}endpoint=example.com:1`, INVALID],
    [`${BOB}endpoint=127.0.0.1`, INVALID],
    [`${BOB}endpoint=127.0.0.1:0`, INVALID],
    [`${BOB}persistent_keepalive_interval=off`, INVALID],
    [`${BOB}persistent_keepalive_interval=65536`, INVALID],
    [`${BOB}remove=1`, INVALID],
    [`${BOB}update_only=yes`, INVALID],
    [`${BOB}replace_allowed_ips=`, INVALID],
    [`${BOB}protocol_version=2`, INVALID],
    [`${BOB}preshared_key=zz`, INVALID],
    [`${BOB}rekey_interval_ms=9999`, INVALID],
    [`${BOB}post_quantum_ms=9999`, INVALID],
    [`${BOB}post_quantum_ms=86400001`, INVALID],
    [`${BOB}cipher_suite=rot13`, INVALID],
    [`${BOB}listen_port=5`, INVALID],
  ])('refuses %j and applies nothing of the rest', async (lines, errno) => {
    await using served = await serveTunnel();
    const conversation = await Conversation.open(served.path);
    const before = await conversation.ask('get=1\n\n');
    const around = `set=1\nprivate_key=${hex(alice.privateKey)}\n`;
    expect(await conversation.ask(`${around}${lines}\n${CAROL}allowed_ip=10.0.0.0/8\n\n`)).toBe(errno);
    expect(await conversation.ask('get=1\n\n')).toBe(before);
    conversation.close();
  });

  it('says when the port is in use, and changes nothing', async () => {
    await using other = await serveTunnel();
    await using served = await serveTunnel();
    await other.tunnel.configure({ listenPort: 0 });
    const { listenPort } = await other.tunnel.status();
    expect(await ask(served.path, `set=1\nlisten_port=${listenPort}\n${BOB}\n`)).toBe('errno=-98\n\n');
    expect((await served.tunnel.status()).device.peers).toEqual([]);
  });

  it('takes 130,560 allowed IPs in one operation and tells them again', { timeout: 60_000 }, async () => {
    await using served = await serveTunnel();
    const lines: string[] = [];
    for (let i = 0; i < 65_280; i++) {
      lines.push(`allowed_ip=10.${i >> 8}.${i & 255}.0/24`, `allowed_ip=fd00:${(i >> 8).toString(16)}:${i & 255}::/48`);
    }
    expect(await ask(served.path, `set=1\n${BOB}${lines.join('\n')}\n\n`)).toBe(OK);
    const answer = await ask(served.path, 'get=1\n\n');
    expect(answer.match(/^allowed_ip=/gm)).toHaveLength(130_560);
  });
});

describe('the socket', () => {
  it('understands requests in pieces of any size, several on one connection', async () => {
    await using served = await serveTunnel();
    const conversation = await Conversation.open(served.path);
    for (const byte of `set=1\n${BOB}allowed_ip=10.0.0.0/8\n\n`) {
      conversation.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await conversation.answer()).toBe(OK);
    conversation.send(`set=1\n${CAROL}\nget=1\n\nget=1\n\n`);
    expect(await conversation.answer()).toBe(OK);
    const first = await conversation.answer();
    expect(first).toContain(CAROL);
    expect(await conversation.answer()).toBe(first);
    conversation.close();
  });

  it('answers a client that ended its side, and applies nothing that was cut off', async () => {
    await using served = await serveTunnel();
    const whole = await Conversation.open(served.path);
    whole.socket.end(`set=1\n${BOB}\n`);
    expect(await whole.answer()).toBe(OK);
    const cut = await Conversation.open(served.path);
    cut.socket.end(`set=1\n${CAROL}allowed_ip=10.0.0.0/8\n`);
    expect(await cut.answer()).toBe(PROTOCOL);
    expect((await served.tunnel.status()).device.peers.map((peer) => keyId(peer.publicKey))).toEqual([
      keyId(bob.publicKey),
    ]);
  });

  it.each(['frobnicate=1\n\n', 'get=2\n\n', 'GET / HTTP/1.1\r\n\r\n', '\n', 'set=1 \n\n'])(
    'refuses the operation %j and hangs up',
    async (text) => {
      await using served = await serveTunnel();
      const conversation = await Conversation.open(served.path);
      expect(await conversation.ask(text)).toBe(INVALID);
      expect(await conversation.answer()).toBe('');
    },
  );

  it('refuses lines behind get, and goes on', async () => {
    await using served = await serveTunnel();
    const conversation = await Conversation.open(served.path);
    expect(await conversation.ask('get=1\nprivate_key=1\n\n')).toBe(INVALID);
    expect(await conversation.ask('get=1\n\n')).toContain(OK);
    conversation.close();
  });

  it('refuses endless lines, whatever their operation', async () => {
    await using served = await serveTunnel();
    for (const text of ['x'.repeat(MAX_LINE + 1), `set=1\nprivate_key=${'0'.repeat(MAX_LINE)}`]) {
      const conversation = await Conversation.open(served.path);
      expect(await conversation.ask(text)).toBe('errno=-5\n\n');
      expect(await conversation.answer()).toBe('');
    }
  });

  it('serves on while 1,000 connections are idle, half open or deaf', { timeout: 60_000 }, async () => {
    await using served = await serveTunnel();
    const ips = Array.from({ length: 5_000 }, (_, i) => `allowed_ip=10.${i >> 8}.${i & 255}.0/24\n`);
    await ask(served.path, `set=1\n${BOB}${ips.join('')}\n`);
    const idle = await Promise.all(Array.from({ length: 1_000 }, () => Conversation.open(served.path)));
    idle.forEach((conversation, i) => {
      if (i % 2 === 1) conversation.send(`set=1\n${BOB}allowed`);
      if (i % 50 !== 0) return;
      conversation.socket.pause();
      conversation.send('get=1\n\n'.repeat(100));
    });
    expect(await ask(served.path, `set=1\n${CAROL}\n`)).toBe(OK);
    expect(await ask(served.path, 'get=1\n\n')).toContain(CAROL);
    for (const conversation of idle) conversation.close();
  });

  it('survives clients that vanish in the middle of an answer', async () => {
    await using served = await serveTunnel();
    const ips = Array.from({ length: 20_000 }, (_, i) => `allowed_ip=10.${i >> 8}.${i & 255}.0/24\n`);
    await ask(served.path, `set=1\n${BOB}${ips.join('')}\n`);
    for (let i = 0; i < 20; i++) {
      const conversation = await Conversation.open(served.path);
      conversation.send('get=1\n\nget=1\n\n');
      conversation.close();
    }
    expect(await ask(served.path, 'get=1\n\n')).toContain('allowed_ip=10.78.31.0/24\n');
  });
});

describe("Sealane's own operations", () => {
  it('reports the status', async () => {
    await using served = await serveTunnel();
    await served.tunnel.configure({
      privateKey: alice.privateKey,
      peers: [{ publicKey: bob.publicKey, presharedKey: carol.privateKey, endpoint: loopback(9) }],
    });
    const report = await readStatus(served.path);
    expect(report).toMatchObject({
      name: 'wg0',
      lane: 'portable',
      publicKey: Buffer.from(alice.publicKey).toString('base64'),
      peers: [
        {
          publicKey: Buffer.from(bob.publicKey).toString('base64'),
          hasPresharedKey: true,
          endpoint: '127.0.0.1:9',
          sessions: 0,
        },
      ],
    });
    const text = JSON.stringify(report);
    for (const secret of [alice.privateKey, carol.privateKey]) {
      expect(text).not.toContain(Buffer.from(secret).toString('base64'));
      expect(text).not.toContain(hex(secret));
    }
  });

  it('begins handshakes', async () => {
    await using served = await serveTunnel();
    await served.tunnel.configure({
      privateKey: alice.privateKey,
      peers: [{ publicKey: bob.publicKey, endpoint: loopback(9) }, { publicKey: carol.publicKey }],
    });
    expect(await requestRekey(served.path)).toBe(1);
    expect(await requestRekey(served.path, bob.publicKey)).toBe(1);
    expect(await requestRekey(served.path, carol.publicKey)).toBe(0);
    expect(await ask(served.path, 'rekey=bob\n\n')).toBe(INVALID);
    expect(await ask(served.path, 'rekey=\n\n')).toBe(INVALID);
  });

  it('asks for the end and for a reload, where somebody listens', async () => {
    const called: string[] = [];
    await using served = await serveTunnel({
      shutdown: () => void called.push('shutdown'),
      reload: async () => void called.push('reload'),
    });
    await requestReload(served.path);
    await requestShutdown(served.path);
    await expect.poll(() => called).toEqual(['reload', 'shutdown']);
    await using deaf = await serveTunnel();
    await expect(requestShutdown(deaf.path)).rejects.toMatchObject({ name: 'ControlError', errno: 95 });
    await expect(requestReload(deaf.path)).rejects.toThrow('this tunnel does not do that');
  });

  it('says when a reload failed', async () => {
    await using served = await serveTunnel({ reload: () => Promise.reject(new RangeError('bad file')) });
    await expect(requestReload(served.path)).rejects.toMatchObject({ errno: 22 });
  });

  it('applies a configuration like syncconf: what stays is not touched, what is not named goes', async () => {
    await using served = await serveTunnel();
    const peers = [{ publicKey: bob.publicKey, presharedKey: alice.privateKey }, { publicKey: carol.publicKey }];
    await requestConfigure(served.path, { privateKey: alice.privateKey, replacePeers: true, peers });
    await requestConfigure(served.path, {
      replacePeers: true,
      peers: [
        {
          publicKey: bob.publicKey,
          endpoint: loopback(9),
          allowedIps: [{ address: new Uint8Array(4), length: 0 }],
          rekeyInterval: 20_000,
          persistentKeepalive: 0,
          cipherSuite: 'chacha20poly1305',
          postQuantum: 7_200_000,
        },
      ],
    });
    expect((await served.tunnel.status()).device.peers).toMatchObject([
      {
        publicKey: bob.publicKey,
        hasPresharedKey: true,
        endpoint: loopback(9),
        rekeyInterval: 20_000,
        postQuantum: { interval: 7_200_000 },
      },
    ]);
  });

  it('says what is wrong on the way there', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'wg0.sock');
    await expect(readStatus(path)).rejects.toThrow(`cannot reach control socket ${path}: no tunnel is running there`);
    await using served = await serveTunnel();
    await expect(requestControl(served.path, ['set=1', 'x'])).rejects.toThrow(ControlError);
    await expect(requestControl(served.path, ['set=1', 'x'])).rejects.toMatchObject({ errno: 71, path: served.path });
    await rm(folder, { recursive: true });
  });
});

describe('other users', () => {
  it.runIf(process.geteuid?.() === 0)('are hung up on even when the modes let them in', async () => {
    await using served = await serveTunnel();
    await chmod(served.folder, 0o755);
    await chmod(served.path, 0o666);
    const program = `const socket = require('node:net').connect(process.argv[1]);
      socket.on('connect', () => socket.write('get=1\\n\\n')).on('error', () => undefined);
      socket.on('data', (text) => { process.stdout.write(text); socket.end(); });`;
    const answerFor = async (uid: number): Promise<string> => {
      const child = spawn(process.execPath, ['-e', program, served.path], { cwd: '/', uid, env: {} });
      let answer = '';
      child.stdout.on('data', (text) => (answer += String(text)));
      await once(child, 'close');
      return answer;
    };
    expect(await answerFor(0)).toContain(OK);
    expect(await answerFor(65_534)).toBe('');
  });
});

describe('the path', () => {
  const permissions = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

  it('is a socket of mode 0600 in a folder of mode 0700, and nothing is left behind', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'new', 'deep', 'wg0.sock');
    await using tunnel = await openTunnel({ device: memoryPair()[0], crypto: nobleCrypto });
    const control = await serveControl(tunnel, path);
    expect(await permissions(path)).toBe(0o600);
    expect(await permissions(join(folder, 'new', 'deep'))).toBe(0o700);
    expect(await permissions(join(folder, 'new'))).toBe(0o700);
    expect(await readdir(join(folder, 'new', 'deep'))).toEqual(['wg0.sock']);
    await control.close();
    await control.close();
    expect(await readdir(join(folder, 'new', 'deep'))).toEqual([]);
    await rm(folder, { recursive: true });
  });

  it('is refused while it is in use, and the one in use lives on', async () => {
    await using served = await serveTunnel();
    await expect(serveControl(served.tunnel, served.path)).rejects.toThrow(
      'is in use: a tunnel of this name is running',
    );
    expect(await ask(served.path, 'get=1\n\n')).toContain(OK);
    expect(await readdir(served.folder)).toEqual(['wg0.sock']);
  });

  it('is not taken from what is no socket, nor in an open folder', async () => {
    await using served = await serveTunnel();
    const file = join(served.folder, 'file.sock');
    await writeFile(file, 'precious');
    await expect(serveControl(served.tunnel, file)).rejects.toThrow('there is something that is no socket');
    expect((await lstat(file)).size).toBe(8);
    const open = join(served.folder, 'open');
    await mkdir(open);
    await chmod(open, 0o777);
    await expect(serveControl(served.tunnel, join(open, 'wg0.sock'))).rejects.toThrow(`run 'chmod 700 ${open}'`);
    await expect(serveControl(served.tunnel, join(served.folder, 'x'.repeat(120)))).rejects.toThrow(
      'use a shorter folder',
    );
    expect((await readdir(served.folder)).toSorted()).toEqual(['file.sock', 'open', 'wg0.sock']);
  });

  it('is taken over from a killed program by exactly one of many', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'wg0.sock');
    await killedServer(path);
    expect((await lstat(path)).isSocket()).toBe(true);
    await using tunnel = await openTunnel({ device: memoryPair({ name: 'heir' })[0], crypto: nobleCrypto });
    const attempts = await Promise.allSettled(Array.from({ length: 12 }, () => serveControl(tunnel, path)));
    const won = attempts.filter((attempt) => attempt.status === 'fulfilled');
    expect(won).toHaveLength(1);
    expect((await readStatus(path)).name).toBe('heir');
    expect(await readdir(folder)).toEqual(['wg0.sock']);
    expect(await permissions(path)).toBe(0o600);
    await won[0]!.value.close();
    await rm(folder, { recursive: true });
  });

  it('is taken over also when the killed program held the lock', async () => {
    const folder = await temporaryFolder();
    const lock = join(folder, '.wg0.sock.lock');
    await writeFile(lock, '');
    await utimes(lock, new Date(), new Date(Date.now() - 6_000));
    await using tunnel = await openTunnel({ device: memoryPair()[0], crypto: nobleCrypto });
    const control = await serveControl(tunnel, join(folder, 'wg0.sock'));
    expect(await readdir(folder)).toEqual(['wg0.sock']);
    await control.close();
    await rm(folder, { recursive: true });
  });

  it('is left alone on close when somebody else owns it by now', async () => {
    await using served = await serveTunnel();
    const path = join(served.folder, 'wg1.sock');
    const first = await serveControl(served.tunnel, path);
    await rm(path);
    const heir = await serveControl(served.tunnel, path);
    await first.close();
    expect(await ask(path, 'get=1\n\n')).toContain(OK);
    await heir.close();
  });

  it('follows from a valid name only', () => {
    expect(controlPath('wg0')).toMatch(/\/wg0\.sock$/);
    expect(controlPath('a_=+.-0123456Z9')).toMatch(/\/a_=\+\.-0123456Z9\.sock$/);
    for (const name of ['', '.', '..', 'a/b', '../wg0', 'sixteen-letters-', 'a b', 'a\n', 'ä', '$(id)']) {
      expect(() => controlPath(name)).toThrow(RangeError);
    }
  });
});

/** A program that serves the path and is killed without a chance to clean up. */
async function killedServer(path: string): Promise<void> {
  const program = `require('node:net').createServer().listen(process.argv[1], () => process.stdout.write('up'))`;
  const child: ChildProcess = spawn(process.execPath, ['-e', program, path]);
  await once(child.stdout!, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
}
