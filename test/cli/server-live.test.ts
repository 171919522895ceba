/** `sealaned run` as a process, with real tunnels over loopback as its clients, and commands that change it meanwhile. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Lab, missing, until } from '../support/lab.ts';
import {
  connect,
  SEALANED,
  sealaned,
  Scratch,
  SERVER_V6,
  startServer,
  type Client,
  type ServerProcess,
} from './server-support.ts';

let scratch: Scratch;
let open: (Client | ServerProcess)[];

beforeEach(async () => {
  scratch = new Scratch();
  open = [];
  await scratch.init();
});
afterEach(async () => {
  for (const one of open.toReversed()) await ('child' in one ? one.stop('SIGKILL') : one.close());
  scratch.remove();
});

async function start(...args: readonly string[]): Promise<{ server: ServerProcess; port: number }> {
  const { server, ready } = await startServer(scratch.state, args.length > 0 ? args : undefined);
  open.push(server);
  return { server, port: ready.port };
}

async function joinAs(config: string, port: number): Promise<Client> {
  const client = await connect(config, port);
  open.push(client);
  return client;
}

interface PeerJson {
  readonly name: string;
  readonly live?: { readonly sessions: number; readonly rxBytes: number; readonly endpoint?: string };
}

async function peer(name: string): Promise<PeerJson> {
  return JSON.parse(await scratch.must('peer', 'show', name, '--json')) as PeerJson;
}

describe('sealaned run', () => {
  it('says once what it is, serves its peers over IPv4 and IPv6, and logs their sessions', async () => {
    const config = await scratch.must('peer', 'add', 'alice');
    const { server, port } = await start();
    const { log } = server;
    expect(log.filter(({ event }) => event === 'ready')).toHaveLength(1);
    const ready = log.find(({ event }) => event === 'ready')!;
    expect(ready).toMatchObject({
      addresses: ['127.77.0.1/24', 'fd77::1/64'],
      device: 'netstack',
      interface: 'userspace',
    });
    for (const field of ['crypto', 'lane', 'publicKey']) expect(ready[field]).toMatch(/./);
    expect(config).toContain(`PublicKey = ${String(ready['publicKey'])}`);

    const alice = await joinAs(config, port);
    expect(await alice.reaches()).toBe(true);
    expect(await alice.reaches(SERVER_V6)).toBe(true);
    expect(await server.logged('session')).toMatchObject({ peer: 'alice', role: 'responder', number: 1 });
    const { live } = await peer('alice');
    expect(live).toMatchObject({ sessions: 1 });
    expect(live!.endpoint).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(live!.rxBytes).toBeGreaterThan(0);
    expect(await scratch.must('peer', 'list')).toMatch(/alice +127\.77\.0\.2 fd77::2 +127\.0\.0\.1:\d+/);
    expect(await scratch.must('status')).toMatch(/^running\n[^]*peers +1, 1 with a session/);
  });

  it('leaves no file half-written when a second signal comes while it stops', async () => {
    const preload = fileURLToPath(new URL('../support/signal-while-writing.cjs', import.meta.url));
    const words = ['--require', preload, SEALANED, 'run', '--state', scratch.state, '--userspace', '--listen', '0'];
    const child = spawn(process.execPath, words, {
      env: { ...process.env, SIGNAL_AT: '/endpoints.json.tmp' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    try {
      await until('the server to be ready', () => said.includes('ready:') || child.exitCode !== null, 45_000);
      child.kill('SIGTERM');
      await ended;
    } finally {
      child.kill('SIGKILL');
    }
    expect(readdirSync(scratch.state).filter((name) => name.startsWith('endpoints'))).toEqual(['endpoints.json']);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('ends in good order with %s', async (signal) => {
    const { server } = await start();
    expect(statSync(join(scratch.state, 'control.sock')).mode & 0o777).toBe(0o600);
    const { code, stderr } = await server.stop(signal);
    expect([code, stderr]).toEqual([0, '']);
    expect(server.log.slice(-2).map(({ event }) => event)).toEqual(['stopping', 'stopped']);
    expect(existsSync(join(scratch.state, 'control.sock'))).toBe(false);
    expect(await scratch.must('status')).toMatch(/^not running/);
  });

  it('prints lines for people, without secrets', async () => {
    const child = spawn(process.execPath, [SEALANED, 'run', '--userspace', '--listen', '0', '--state', scratch.state]);
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    while (!text.includes('ready:')) await once(child.stdout, 'data');
    child.kill('SIGTERM');
    await once(child, 'close');
    expect(text).toMatch(
      /^\S+Z ready: 127\.77\.0\.1\/24 fd77::1\/64, UDP port \d+, public key \S{44}, device (?:memory|netstack) \S+, crypto .+, lane \w+$/m,
    );
    expect(text).not.toContain(readFileSync(join(scratch.state, 'private.key'), 'utf8').trim());
  });

  it('refuses a second run on the same state, which the first one survives', async () => {
    const config = await scratch.must('peer', 'add', 'alice');
    const { port } = await start();
    const second = await sealaned(['run', '--userspace', '--listen', '0', '--state', scratch.state]);
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(/^sealaned: another sealaned runs on [^\n]+\n$/);
    const alice = await joinAs(config, port);
    expect(await alice.reaches()).toBe(true);
  });

  it('runs again after it was killed, with what its dead self left', async () => {
    const config = await scratch.must('peer', 'add', 'alice');
    const first = await start();
    const before = await joinAs(config, first.port);
    expect(await before.reaches()).toBe(true);
    await first.server.stop('SIGKILL');
    expect(existsSync(join(scratch.state, 'control.sock'))).toBe(true);
    expect(await scratch.must('status')).toMatch(/^not running/);
    await scratch.must('peer', 'add', 'bob');

    const second = await start();
    const after = await joinAs(config, second.port);
    expect(await after.reaches()).toBe(true);
    expect((await peer('bob')).live).toBeDefined();
  });

  it('says which port is in use and how to take another', async () => {
    const socket = createSocket('udp4');
    socket.bind(0);
    await once(socket, 'listening');
    const { port } = socket.address();
    const { code, stderr } = await sealaned(['run', '--userspace', '--listen', String(port), '--state', scratch.state]);
    socket.close();
    expect(code).toBe(1);
    expect(stderr).toBe(`sealaned: UDP port ${port} is in use: choose another one with --listen\n`);
    expect(existsSync(join(scratch.state, 'control.sock'))).toBe(false);
  });

  it('keeps its log short under a flood of replayed handshakes', async () => {
    const config = await scratch.must('peer', 'add', 'alice');
    const { server, port } = await start();
    const relay = createSocket('udp4');
    relay.bind(0, '127.0.0.1');
    await once(relay, 'listening');
    const initiation = once(relay, 'message') as Promise<[Uint8Array]>;
    const alice = await joinAs(config, relay.address().port);
    void alice.reaches();
    const [bytes] = await initiation;
    const send = (): Promise<void> => new Promise((resolve) => relay.send(bytes, port, '127.0.0.1', () => resolve()));
    const response = once(relay, 'message');
    await send();
    await response;
    // Few at once are judged; of many the server asks for proof instead.
    await until('100 refusals', async () => {
      for (let i = 0; i < 50; i++) await send();
      const drops = (await scratch.must('status')).matchAll(/(?:stale-timestamp|initiation-flood) (\d+)/g);
      return [...drops].reduce((sum, [, count]) => sum + Number(count), 0) > 100;
    });
    for (let i = 0; i < 3_000; i++) await send();
    await server.logged(
      'handshake-refused',
      (line) => line['reason'] === 'stale-timestamp' || line['reason'] === 'initiation-flood',
    );
    relay.close();
    await server.stop();
    expect(server.log.length).toBeLessThan(60);
    expect(server.log.some((line) => Number(line['leftOut'] ?? 0) > 0)).toBe(true);
  });
});

describe('a running server', () => {
  it('serves a new peer at once, and no packet of a removed one, while the others notice nothing', async () => {
    const aliceConfig = await scratch.must('peer', 'add', 'alice');
    const { server, port } = await start();
    const alice = await joinAs(aliceConfig, port);
    expect(await alice.reaches()).toBe(true);

    const added = await scratch.run('peer', 'add', 'bob');
    expect(added.stderr).toContain('the running server knows');
    const bob = await joinAs(added.stdout, port);
    expect(await bob.reaches()).toBe(true);
    await server.logged('peer-added', (line) => line['peer'] === 'bob');

    const traffic = bob.echo.bulk({ target: Uint8Array.of(127, 77, 0, 1), bytes: 3_000_000, window: 16 });
    expect(await scratch.must('peer', 'remove', 'alice')).toContain('serves it no more');
    const before = (await alice.status()).device.peers[0]!.rxBytes;
    const pings = await Promise.all(
      [1, 2, 3].map(() => alice.echo.ping({ target: Uint8Array.of(127, 77, 0, 1), timeoutMs: 700 })),
    );
    expect(pings).toEqual([undefined, undefined, undefined]);
    expect((await alice.status()).device.peers[0]!.rxBytes).toBe(before);
    expect(await alice.tunnel.rekey()).toBe(1);
    await until('the server to refuse a handshake', async () =>
      (await scratch.must('status')).includes('unknown-peer 1'),
    );
    expect((await alice.status()).device.peers[0]!.sessions).toBe(1);
    expect(Number(/unknown-index (\d+)/.exec(await scratch.must('status'))![1])).toBeGreaterThanOrEqual(3);

    expect(await traffic).toMatchObject({ bytes: 3_000_000, lost: 0, wrong: 0 });
    expect((await peer('bob')).live).toMatchObject({ sessions: 1 });
    expect((await scratch.run('peer', 'show', 'alice')).code).toBe(1);
  });

  it('gives the address of a removed peer to the next one, whose packets alone carry it', async () => {
    const { port } = await start();
    const old = await joinAs(await scratch.must('peer', 'add', 'old'), port);
    expect(await old.reaches()).toBe(true);
    await scratch.must('peer', 'remove', 'old');
    const config = await scratch.must('peer', 'add', 'new');
    expect(config).toContain('Address = 127.77.0.2/32');
    const next = await joinAs(config, port);
    expect(await next.reaches()).toBe(true);
    expect(await old.echo.ping({ target: Uint8Array.of(127, 77, 0, 1), timeoutMs: 500 })).toBeUndefined();
  });

  it('takes many changes at once', async () => {
    const { port } = await start();
    const names = Array.from({ length: 6 }, (_, i) => `peer${i}`);
    const configs = await Promise.all(names.map((name) => scratch.must('peer', 'add', name)));
    const clients = await Promise.all(configs.map((config) => joinAs(config, port)));
    expect(await Promise.all(clients.map((client) => client.reaches()))).toEqual(names.map(() => true));
    await Promise.all(names.slice(0, 5).map((name) => scratch.must('peer', 'remove', name)));
    expect(JSON.parse(await scratch.must('peer', 'list', '--json'))).toMatchObject([
      { name: 'peer5', live: { sessions: 1 } },
    ]);
  });

  it('that cannot be told is said to need a restart, and nothing is lost', async () => {
    await start();
    unlinkSync(join(scratch.state, 'control.sock'));
    const { code, stdout, stderr } = await scratch.run('peer', 'add', 'alice');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^# alice\n\[Interface\]\n/);
    expect(stderr).toMatch(/^sealaned: alice is added, but the running server does not know yet [^\n]+: restart it\n$/);
    expect((await peer('alice')).name).toBe('alice');
  });

  it('reads the registry again with SIGHUP, and keeps what it has when the file is broken', async () => {
    const { server } = await start();
    const registry = join(scratch.state, 'registry.json');
    chmodSync(registry, 0o644);
    server.child.kill('SIGHUP');
    await server.logged('reload-failed');
    expect(server.child.exitCode).toBeNull();
  });
});

describe('without permission', () => {
  const skip = process.getuid?.() === 0 ? false : 'needs root to become nobody';

  it.skipIf(skip !== false)('the server runs in userspace, or says how to when TUN was asked for', async () => {
    const nobody = 65_534;
    const folder = mkdtempSync(join(tmpdir(), 'sealaned-'));
    chownSync(folder, nobody, nobody);
    const state = join(folder, 'state');
    const as = { uid: nobody, env: { HOME: folder }, cwd: folder };
    try {
      const init = await sealaned(
        ['init', '--endpoint', '127.0.0.1:51820', '--pool', '127.77.0.0/24', '--state', state],
        as,
      );
      expect([init.code, init.stderr]).toEqual([0, '']);
      const config = (await sealaned(['peer', 'add', 'alice', '--state', state], as)).stdout;
      const tun = await sealaned(['run', '--interface', 'sealane9', '--listen', '0', '--state', state], as);
      expect(tun.code).toBe(1);
      expect(tun.stderr).toMatch(
        /^sealaned: no permission to create the TUN interface sealane9: [^\n]+--userspace[^\n]+\n$/,
      );

      const { server, ready } = await startServer(state, [], as);
      open.push(server);
      expect(server.log[0]).toMatchObject({ event: 'fallback' });
      expect(ready).toMatchObject({ device: 'netstack' });
      const alice = await joinAs(config, ready.port);
      expect(await alice.reaches()).toBe(true);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('with a TUN interface', () => {
  const lacking = missing();

  it.skipIf(lacking !== undefined)('the server sets address and MTU, and takes everything back', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('server');
    const name = lab.interfaceName('s');
    const server = host.start(process.execPath, [
      SEALANED,
      'run',
      '--json',
      '--interface',
      name,
      '--listen',
      '0',
      '--state',
      scratch.state,
    ]);
    while (!server.stdout.includes('"ready"') && server.child.exitCode === null) {
      await Promise.race([once(server.child.stdout!, 'data'), server.exit]);
    }
    expect(server.stderr).toBe('');
    const link = await host.must('ip', ['address', 'show', 'dev', name]);
    expect(link).toMatch(/mtu 1420/);
    expect(link).toMatch(/[<,]UP[,>]/);
    expect(link).toContain('inet 127.77.0.1/24');
    expect(link).toContain('inet6 fd77::1/64');
    expect(await server.stop('SIGTERM')).toBe(0);
    expect((await host.run('ip', ['link', 'show', name])).code).not.toBe(0);
    expect(await host.must('ip', ['-6', 'route', 'show'])).not.toContain('fd77::');
  });

  it.skipIf(lacking !== undefined)('that is deleted the server ends with an error', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('server');
    const name = lab.interfaceName('s');
    const server = host.start(process.execPath, [
      SEALANED,
      'run',
      '--json',
      '--interface',
      name,
      '--listen',
      '0',
      '--state',
      scratch.state,
    ]);
    while (!server.stdout.includes('"ready"') && server.child.exitCode === null) {
      await Promise.race([once(server.child.stdout!, 'data'), server.exit]);
    }
    await host.must('ip', ['link', 'delete', name]);
    expect(await server.exit).toBe(1);
    expect(JSON.parse(server.stderr)).toMatchObject({ level: 'error', message: "the server's interface is gone" });
  });
});
