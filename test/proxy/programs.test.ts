/** Real programs through real processes that have no privileges at all: proxies on one side, the userspace gateway on the other. */
import { createHash, randomBytes } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { execute, until } from '../support/lab.ts';
import { missingPrograms, Process, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms('curl');
const FILE = randomBytes(20_000_000);
const FILE_HASH = createHash('sha256').update(FILE).digest('hex');
/** Of a name server that answers every name with 127.0.0.1; port 53 needs root. */
const NAME_SERVER = '127.55.0.53';
const canBindLowPorts = process.getuid?.() === 0;

let world: RootlessWorld;
let web: http.Server;
let webPort: number;
let closers: (() => unknown)[] = [];

beforeAll(async () => {
  if (lacking !== undefined) return;
  web = http.createServer((request, response) => {
    if (request.method === 'PUT') {
      const hash = createHash('sha256');
      request.on('data', (chunk: Uint8Array) => hash.update(chunk));
      request.once('end', () => response.end(hash.digest('hex')));
      return;
    }
    response.setHeader('x-host', request.headers.host ?? '');
    response.end(request.url === '/file' ? FILE : `page ${request.url}\n`);
  });
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  webPort = (web.address() as AddressInfo).port;
  world = await RootlessWorld.open({ dns: NAME_SERVER });
});
afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
  web?.closeAllConnections();
  web?.close();
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

function portOf(process: Process, pattern: RegExp): number {
  const match = pattern.exec(process.stderr);
  if (match === null) throw new Error(`no ${pattern} in ${process.stderr}`);
  return Number(match[1]);
}

async function start(...args: readonly string[]): Promise<Process> {
  const process = await world.proxy(...args);
  closers.push(() => process.stop());
  return process;
}

const curl = (...args: readonly string[]): ReturnType<typeof execute> =>
  execute('curl', ['--silent', '--show-error', '--max-time', '40', ...args]);

async function curlHash(...args: readonly string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'sealane-curl-'));
  try {
    const file = join(folder, 'out');
    const result = await curl('--output', file, ...args);
    if (result.code !== 0) throw new Error(`curl: ${result.code} ${result.stderr}`);
    return (await execute('sha256sum', [file])).stdout.slice(0, 64);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** RFC 1035 by hand: the question back with one address. */
async function nameServer(): Promise<string[]> {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    let at = 12;
    const labels: string[] = [];
    while (query[at]! > 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
      at += query[at]! + 1;
    }
    asked.push(labels.join('.'));
    const isA = query.readUInt16BE(at + 1) === 1;
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(isA ? 1 : 0, 6);
    head.writeUInt32BE(0, 8);
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    socket.send(Buffer.concat([head, query.subarray(12, at + 5), ...(isA ? [record] : [])]), from.port, from.address);
  });
  socket.bind(53, NAME_SERVER);
  await once(socket, 'listening');
  closers.push(() => socket.close());
  return asked;
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe.skipIf(lacking !== undefined)(`without privileges (${lacking ?? 'all programs are here'})`, () => {
  it('server and proxy have no capability and can get none', async () => {
    const proxy = await start('--socks5', '0');
    for (const process of [world.server, proxy]) {
      const privileges = process.privileges();
      expect(privileges['Uid']).not.toMatch(/(^|\s)0(\s|$)/);
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) expect(privileges[set]).toBe('0000000000000000');
      expect(privileges['NoNewPrivs']).toBe('1');
    }
  });

  it('curl fetches through SOCKS5 and the HTTP proxy, and uploads', async () => {
    const proxy = await start('--socks5', '0', '--http', '0');
    const socks = `127.0.0.1:${portOf(proxy, /SOCKS5 on 127\.0\.0\.1:(\d+)/)}`;
    const plain = `http://127.0.0.1:${portOf(proxy, /HTTP on 127\.0\.0\.1:(\d+)/)}`;
    const url = `http://127.0.0.1:${webPort}`;
    expect(await curlHash('--socks5', socks, `${url}/file`)).toBe(FILE_HASH);
    expect(await curlHash('--proxy', plain, `${url}/file`)).toBe(FILE_HASH);
    expect(await curlHash('--proxy', plain, '--proxytunnel', `${url}/file`)).toBe(FILE_HASH);
    const folder = mkdtempSync(join(tmpdir(), 'sealane-curl-'));
    closers.push(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'in'), FILE);
    const upload = await curl('--socks5', socks, '--upload-file', join(folder, 'in'), `${url}/`);
    expect(upload.stdout).toBe(FILE_HASH);
  });

  it('curl hears why a destination cannot be reached', async () => {
    const proxy = await start('--socks5', '0', '--http', '0');
    const socks = `127.0.0.1:${portOf(proxy, /SOCKS5 on 127\.0\.0\.1:(\d+)/)}`;
    const plain = `http://127.0.0.1:${portOf(proxy, /HTTP on 127\.0\.0\.1:(\d+)/)}`;
    const closed = `http://127.0.0.1:${await closedPort()}/`;
    const refused = await curl('--socks5', socks, closed);
    expect([refused.code, refused.stderr]).toEqual([97, expect.stringMatching(/\(5\)|refused/i)]);
    const gateway = await curl('--proxy', plain, '--dump-header', '-', closed);
    expect(gateway.stdout).toMatch(/^HTTP\/1\.1 502 [^]*connection_refused/);
    // The tunnel leads to 127.0.0.0/8 alone: nothing is sent, and the answer comes at once.
    const outside = await curl('--socks5', socks, 'http://192.0.2.1/');
    expect([outside.code, outside.stderr]).toEqual([97, expect.stringMatching(/\(3\)|unreachable/i)]);
    // The pool of the peers is nobody's to reach.
    const peers = await curl('--proxy', plain, '--dump-header', '-', 'http://127.77.0.9/');
    expect(peers.stdout).toMatch(/^HTTP\/1\.1 502 [^]*destination_ip_prohibited/);
  });

  it.skipIf(!canBindLowPorts)(
    'names are looked up through the tunnel, by its own and by a real resolver over UDP',
    async () => {
      const asked = await nameServer();
      const proxy = await start('--socks5', '0', '-L', `0:${NAME_SERVER}:53/udp`);
      const socks = `127.0.0.1:${portOf(proxy, /SOCKS5 on 127\.0\.0\.1:(\d+)/)}`;
      const page = await curl('--socks5-hostname', socks, `http://web.example:${webPort}/named`);
      expect([page.code, page.stdout]).toEqual([0, 'page /named\n']);
      expect(asked).toContain('web.example');
      const resolver = new Resolver();
      resolver.setServers([`127.0.0.1:${portOf(proxy, /127\.0\.0\.1:(\d+)\/udp/)}`]);
      expect(await resolver.resolve4('other.example')).toEqual(['127.0.0.1']);
      expect(asked).toContain('other.example');
    },
  );

  it('asks for the password of a file', async () => {
    const users = join(world.folder, 'users');
    writeFileSync(users, 'ann:open sesame\n', { mode: 0o600 });
    await execute('chown', ['--reference', world.config, users]);
    chmodSync(users, 0o600);
    const proxy = await start('--socks5', '0.0.0.0:0', '--auth', users);
    const port = portOf(proxy, /SOCKS5 on 0\.0\.0\.0:(\d+)/);
    const url = `http://127.0.0.1:${webPort}/in`;
    expect((await curl('--socks5', `127.0.0.1:${port}`, '--proxy-user', 'ann:open sesame', url)).stdout).toBe(
      'page /in\n',
    );
    expect((await curl('--socks5', `127.0.0.1:${port}`, '--proxy-user', 'ann:wrong', url)).code).toBe(97);
  });

  it.skipIf(missingPrograms('iperf3') !== undefined)('iperf3 runs through -L in both directions', async () => {
    const port = await closedPort();
    const server = new Process(spawn('iperf3', ['-s', '-B', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' }));
    closers.push(() => server.stop('SIGKILL'));
    const proxy = await start('-L', `0:127.0.0.1:${port}`);
    const local = portOf(proxy, /127\.0\.0\.1:(\d+) to /);
    await until(
      'iperf3 to listen',
      async () => (await execute('ss', ['-Hltn', 'sport', '=', String(port)])).stdout !== '',
    );
    for (const direction of [[], ['-R']]) {
      const result = await execute('iperf3', ['-c', '127.0.0.1', '-p', String(local), '-n', '32M', '-J', ...direction]);
      expect(result.code).toBe(0);
      const { end } = JSON.parse(result.stdout) as { end: Record<'sum_sent' | 'sum_received', { bytes: number }> };
      expect(end.sum_sent.bytes).toBeGreaterThanOrEqual(32 * 2 ** 20);
      // iperf3 counts no further once the sender has sent all: what then lies in buffers is missing here.
      expect(end.sum_received.bytes).toBeGreaterThan(2 ** 20);
    }
  });

  it.skipIf(missingPrograms('ssh', 'sshd', 'ssh-keygen') !== undefined || !canBindLowPorts)(
    'ssh works over --stdio',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'sealane-ssh-'));
      closers.push(() => rmSync(folder, { recursive: true }));
      for (const name of ['host', 'user'])
        await execute('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
      await execute('cp', [join(folder, 'user.pub'), join(folder, 'authorized')]);
      await execute('mkdir', ['-p', '/run/sshd']);
      const port = await closedPort();
      const sshd = new Process(
        spawn(
          '/usr/sbin/sshd',
          ['-D', '-e', '-f', '/dev/null', '-h', join(folder, 'host'), '-p', String(port)].concat(
            [
              'ListenAddress=127.0.0.1',
              `AuthorizedKeysFile=${join(folder, 'authorized')}`,
              'StrictModes=no',
              'PermitRootLogin=yes',
              `PidFile=${join(folder, 'pid')}`,
            ].flatMap((option) => ['-o', option]),
          ),
          { stdio: ['ignore', 'pipe', 'pipe'] },
        ),
      );
      closers.push(() => sshd.stop('SIGKILL'));
      await sshd.said(/Server listening/);
      const options = [
        `ProxyCommand=${world.stdioCommand()}`,
        `IdentityFile=${join(folder, 'user')}`,
        'IdentitiesOnly=yes',
        'StrictHostKeyChecking=no',
        `UserKnownHostsFile=${join(folder, 'known')}`,
        'LogLevel=ERROR',
        'BatchMode=yes',
      ].flatMap((option) => ['-o', option]);
      const ssh = (command: string, input?: string): ReturnType<typeof execute> =>
        execute('ssh', ['-F', '/dev/null', ...options, '-p', String(port), 'root@127.0.0.1', command], {
          timeout: 50_000,
          ...(input !== undefined && { input }),
        });
      const echoed = await ssh('wc -c; echo done; exit 7', 'x'.repeat(300_000));
      expect([echoed.code, echoed.stdout, echoed.stderr]).toEqual([7, '300000\ndone\n', '']);
      // There, hashed at the far end, and back again.
      const sent = randomBytes(3_000_000).toString('base64');
      const bulk = await ssh('tee /dev/stderr | sha256sum', sent);
      expect(bulk.stdout.slice(0, 64)).toBe(createHash('sha256').update(sent).digest('hex'));
      expect(bulk.stderr === sent).toBe(true);
    },
  );

  it('--stdio says why it cannot connect, in one line', async () => {
    const refused = await world.sealane('proxy', world.config, '--stdio', `127.0.0.1:${await closedPort()}`);
    expect([refused.code, refused.stdout, refused.stderr]).toEqual([
      1,
      '',
      expect.stringMatching(/^sealane: 127\.0\.0\.1:\d+: it refused the connection[^\n]*\n$/),
    ]);
  });

  it.each([
    [[], 'nothing to do'],
    [['--socks5', 'x'], '--socks5 x: expected'],
    [['--socks5', '0.0.0.0:1080'], 'every computer that reaches this address could use the tunnel'],
    [['--socks5', '0', '--stdio', '127.0.0.1:1'], '--stdio goes alone'],
    [['-L', '80', '--socks5', '0'], '-L 80: expected'],
    [['-R', '/path:127.0.0.1:80'], '-R /path:127.0.0.1:80: expected'],
    [['-L', '0:127.0.0.1:1', '--auth', '/dev/null'], '--auth and --login are for'],
    [['--socks5', '0', '--login', 'ann'], 'asks on a terminal'],
  ])('refuses %j as bad input', async (args, message) => {
    const result = await world.sealane('proxy', world.config, ...args);
    expect([result.code, result.stdout]).toEqual([2, '']);
    expect(result.stderr).toContain(message);
    expect(result.stderr.trim().split('\n')).toHaveLength(1);
  });
});

describe.skipIf(lacking !== undefined)('the policy of a real server', () => {
  it('keeps peers from its loopback unless a port is named', async () => {
    await using strict = await RootlessWorld.open({ run: ['--allow', `127.0.0.1/32:${webPort}`] });
    const proxy = await strict.proxy('--http', '0');
    const plain = `http://127.0.0.1:${portOf(proxy, /HTTP on 127\.0\.0\.1:(\d+)/)}`;
    expect((await curl('--proxy', plain, `http://127.0.0.1:${webPort}/allowed`)).stdout).toBe('page /allowed\n');
    const denied = await curl('--proxy', plain, '--dump-header', '-', `http://127.0.0.1:${await closedPort()}/`);
    expect(denied.stdout).toMatch(/^HTTP\/1\.1 502 [^]*destination_ip_prohibited/);
    expect(proxy.stderr).toContain('has no DNS');
  });
});
