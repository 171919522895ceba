import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { utimes } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  clientConfig,
  Folder,
  must,
  newKeyPair,
  type Outcome,
  sealane,
  SEALANE,
  SEALANED,
  type Server,
  start,
  startServer,
} from './client-support.ts';

let folder: Folder;
let server: Server | undefined;

beforeEach(async () => {
  folder = await Folder.make();
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  await folder.remove();
});

function ping(path: string, ...options: readonly string[]): Promise<Outcome> {
  return sealane(['ping', path, ...options], '', { STATE_DIRECTORY: folder.path });
}

interface Result {
  readonly ok: boolean;
  readonly failure?: string;
  readonly message?: string;
  readonly hints?: readonly string[];
  readonly target: string;
  readonly handshakeMs?: number;
  readonly sent: number;
  readonly received: number;
  readonly sessions: number;
  readonly bulk?: { readonly bytes: number; readonly packets: number; readonly lost: number; readonly wrong: number };
}

function parse({ stdout }: Outcome): Result {
  return JSON.parse(stdout) as Result;
}

async function boundSocket(): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

describe('sealane ping of a server that answers', () => {
  const client = newKeyPair();

  it('shows the handshake and every round trip', async () => {
    server = await startServer(client);
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: server.keys.publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const outcome = await ping(path, '--count', '3');
    expect(outcome.stderr).toBe('');
    expect(outcome.stdout).toMatch(
      new RegExp(
        `^handshake with 127\\.0\\.0\\.1:${server.port}: [\\d.]+ ms\necho 1: [\\d.]+ ms\necho 2: .*\necho 3: .*\n3 sent, 3 answered, none lost; round trip `,
      ),
    );
    expect(outcome.code).toBe(0);
  });

  it('transfers in bulk, rekeys in the middle and loses nothing', async () => {
    const presharedKey = newKeyPair();
    server = await startServer(client, { presharedKey: presharedKey.privateKey });
    const path = await folder.write(
      'wg0.conf',
      clientConfig({
        client,
        serverKey: server.keys.publicText,
        endpoint: `localhost:${server.port}`,
        presharedKey: presharedKey.privateText,
      }),
    );
    const outcome = await ping(path, '--count', '1', '--bulk', '2M', '--rekey', '--json');
    const result = parse(outcome);
    expect(result).toMatchObject({ ok: true, target: '127.77.0.1', sent: 1, received: 1, sessions: 2 });
    expect(result.bulk).toMatchObject({ bytes: 2 * 1024 * 1024, lost: 0, wrong: 0 });
    expect(result.bulk!.packets).toBeGreaterThan(1_000);
    expect(outcome.code).toBe(0);
    const [peer] = (await server.tunnel.status()).device.peers;
    expect(peer?.sessions).toBe(2);
  });

  it("carries a real server's own configuration file", async () => {
    const state = `${folder.path}/server`;
    const sealaned = [process.execPath, SEALANED];
    const init = ['init', '--state', state, '--endpoint', '127.0.0.1:51820', '--pool', '127.78.0.0/24'];
    await must([...sealaned, ...init]);
    const running = start([...sealaned, 'run', '--state', state, '--userspace', '--listen', '0']);
    const port = await new Promise<string>((resolve, reject) => {
      const look = setInterval(() => {
        const found = /UDP port (\d+)/.exec(running.stdout + running.stderr);
        if (found !== null) resolve(found[1]!);
      }, 20);
      void running.ended.then(({ stderr }) => reject(new Error(`sealaned ended: ${stderr}`)));
      void running.ended.finally(() => clearInterval(look));
    });
    const text = await must([...sealaned, 'peer', 'add', 'laptop', '--state', state]);
    const path = await folder.write('laptop.conf', text.replace(':51820', `:${port}`));
    const outcome = await ping(path, '--count', '2', '--json');
    running.child.kill('SIGTERM');
    await running.ended;
    expect(parse(outcome)).toMatchObject({ ok: true, target: '127.78.0.1', sent: 2, received: 2, sessions: 1 });
    expect(outcome.code).toBe(0);
  });

  it('ends with a summary when interrupted', async () => {
    server = await startServer(client);
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: server.keys.publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const running = start([process.execPath, SEALANE, 'ping', path, '--count', '1000'], {
      STATE_DIRECTORY: folder.path,
    });
    while (!running.stdout.includes('echo 2:')) await new Promise((resolve) => setTimeout(resolve, 20));
    running.child.kill('SIGINT');
    const outcome = await running.ended;
    expect(outcome.stdout).toMatch(/\d+ sent, \d+ answered, none lost/);
    expect(outcome).toMatchObject({ code: 130, stderr: '' });
  });
});

describe('sealane ping that fails says why', () => {
  const client = newKeyPair();

  it('when the name of the endpoint does not resolve', async () => {
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: 'nowhere.invalid:51820' }),
    );
    const outcome = await ping(path);
    expect(outcome.stderr).toMatch(/^sealane: cannot resolve endpoint nowhere\.invalid:51820: .*\n$/);
    expect(outcome).toMatchObject({ code: 3, stdout: '' });
  });

  it('when nothing listens at the endpoint', async () => {
    const socket = await boundSocket();
    const { port } = socket.address();
    socket.close();
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: `127.0.0.1:${port}` }),
    );
    const outcome = await ping(path, '--json');
    expect(parse(outcome)).toMatchObject({ ok: false, failure: 'refused', sent: 0 });
    expect(parse(outcome).message).toBe(
      `127.0.0.1:${port} is reachable, but nothing listens there (ICMP port unreachable)`,
    );
    expect(outcome.code).toBe(3);
  });

  it('when the server has another key', async () => {
    server = await startServer(client);
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const outcome = await ping(path, '--timeout', '1');
    expect(outcome.stderr).toContain(`sealane: no answer from 127.0.0.1:${server.port} for 1 s\n`);
    expect(outcome.stderr).toContain('PublicKey in [Peer] may not be the key');
    expect(outcome.stderr).toContain(client.publicText);
    expect(outcome.code).toBe(3);
    expect((await server.tunnel.status()).device.drops['bad-mac1']).toBeGreaterThan(0);
  });

  it('when the server does not know our key', async () => {
    server = await startServer(newKeyPair());
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: server.keys.publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const outcome = await ping(path, '--timeout', '1', '--json');
    expect(parse(outcome)).toMatchObject({ ok: false, failure: 'no-answer' });
    expect(parse(outcome).hints?.join()).toContain(`may not know our key ${client.publicText}`);
    expect(outcome.code).toBe(3);
    expect((await server.tunnel.status()).device.drops['unknown-peer']).toBeGreaterThan(0);
  });

  it('when the preshared keys differ', async () => {
    server = await startServer(client, { presharedKey: newKeyPair().privateKey });
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: server.keys.publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const outcome = await ping(path, '--json');
    expect(parse(outcome)).toMatchObject({ ok: false, failure: 'wrong-preshared-key' });
    expect(outcome.code).toBe(1);
  });

  it('when something else answers there', async () => {
    const socket = await boundSocket();
    socket.on('message', (_message, { port, address }) => socket.send('hello, who is there?', port, address));
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: `127.0.0.1:${socket.address().port}` }),
    );
    const outcome = await ping(path, '--timeout', '1', '--json');
    socket.close();
    expect(parse(outcome)).toMatchObject({ ok: false, failure: 'not-wireguard' });
    expect(outcome.code).toBe(3);
  });

  it('when the clock is behind the configuration', async () => {
    const socket = await boundSocket();
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: `127.0.0.1:${socket.address().port}` }),
    );
    const tomorrow = new Date(Date.now() + 86_400_000);
    await utimes(path, tomorrow, tomorrow);
    const outcome = await ping(path, '--timeout', '0.5', '--json');
    socket.close();
    expect(parse(outcome).hints?.[0]).toMatch(/clock .* is earlier than the configuration file/);
    expect(outcome.code).toBe(3);
  });

  it('when the tunnel stands and nothing answers inside', async () => {
    server = await startServer(client, { echo: false });
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: server.keys.publicText, endpoint: `127.0.0.1:${server.port}` }),
    );
    const outcome = await ping(path, '--timeout', '1');
    expect(outcome.stdout).toContain('echo 1: no answer');
    expect(outcome.stderr).toContain('the handshake is fine, but 127.77.0.1 answers no echo through the tunnel');
    expect(outcome.code).toBe(4);
  });

  it.each([
    [['--target', '10.1.2.3'], '10.1.2.3 belongs to no peer'],
    [['--target', 'fd00::1'], 'no Address of that family'],
    [['--target', '1.2.3'], "--target '1.2.3' is no IP address"],
    [['--size', '1393'], '--size 1393 does not fit the tunnel: at most 1392 bytes'],
    [['--count', '-1'], "option '--count <n>' argument '-1' is invalid"],
    [['--bulk', 'much'], "option '--bulk <size>' argument 'much' is invalid"],
  ])('when the options are %j', async (options, message) => {
    const path = await folder.write(
      'wg0.conf',
      clientConfig({ client, serverKey: newKeyPair().publicText, endpoint: '127.0.0.1:9' }),
    );
    const outcome = await ping(path, ...options);
    expect(outcome.stderr).toContain(message);
    expect(outcome.stderr.split('\n')).toHaveLength(2);
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
  });
});
