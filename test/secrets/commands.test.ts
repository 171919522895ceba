/** No command prints, logs or complains with a secret key in it, at any level and in any format, nor has one in its arguments or environment. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  clientConfig,
  Folder,
  newKeyPair,
  type Outcome,
  sealane,
  SEALANE,
  type Server,
  start,
  startServer,
} from '../cli/client-support.ts';
import { connect, finish, launch, Scratch } from '../cli/server-support.ts';
import { execute, type Host, Lab, missing, until } from '../support/lab.ts';
import { control } from '../support/wireguard.ts';
import { brokenFiles, formsOf } from './forms.ts';

const FORMATS = ['text', 'json'] as const;
const LEVELS = ['error', 'warn', 'info'] as const;
const TALKATIVE = { DEBUG: '*', NODE_DEBUG: 'net,dgram,worker' };
const SECRET_LINE = /^\s*(?:PrivateKey|PresharedKey)\s*=\s*(\S+)/gm;

let folder: Folder;
/** What was said, with who said it. */
let said: { readonly by: string; readonly text: string }[];

beforeEach(async () => {
  folder = await Folder.make();
  said = [];
});

afterEach(() => folder.remove());

function listen(by: string, { stdout, stderr }: Pick<Outcome, 'stdout' | 'stderr'>): void {
  said.push({ by, text: `${stdout}\n${stderr}` });
}

/** What is to be seen of a process from outside, by everybody or by its own user; false when it is gone. */
function look(by: string, pid: number | undefined): boolean {
  const read = (file: string): string => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8').replaceAll('\0', '\n');
    } catch {
      // It ended, or is not for this user.
      return '';
    }
  };
  const args = read('cmdline');
  listen(`arguments and environment of ${by}`, { stdout: args, stderr: read('environ') });
  return args !== '';
}

/** The same of all that runs in a host, helpers and commands of a file too; what was seen. */
async function lookAtAll(by: string, host: Host): Promise<string> {
  const begin = said.length;
  for (const pid of (await execute('ip', ['netns', 'pids', host.name])).stdout.trim().split('\n'))
    look(by, Number(pid));
  return said
    .slice(begin)
    .map(({ text }) => text)
    .join('');
}

function expectNone(secrets: Iterable<string>): void {
  const forms = [...secrets].flatMap((secret) => formsOf(secret));
  expect(forms.length).toBeGreaterThan(0);
  // A form may stand at the end of a line that is broken for a narrow terminal.
  const told = said.filter(({ text }) => forms.some((form) => text.replaceAll(/\n\s*/g, '').includes(form)));
  expect(told.map(({ by, text }) => `${by}: ${text.slice(0, 500)}`)).toEqual([]);
}

/** The UDP port of the server that runs on this state. */
async function livePort(scratch: Scratch): Promise<number | undefined> {
  const status = JSON.parse(await scratch.must('status', '--json')) as { live?: { listenPort: number } };
  return status.live?.listenPort;
}

/** A client's file for a server on loopback, with a preshared key, and what is secret in it. */
async function loopback(): Promise<{ readonly text: string; readonly server: Server; readonly secrets: string[] }> {
  const [client, preshared] = [newKeyPair(), newKeyPair()];
  const server = await startServer(client, { presharedKey: preshared.privateKey });
  const endpoint = `127.0.0.1:${server.port}`;
  const text = clientConfig({
    client,
    serverKey: server.keys.publicText,
    endpoint,
    presharedKey: preshared.privateText,
  });
  return { text, server, secrets: [client.privateText, preshared.privateText, server.keys.privateText] };
}

describe('without privileges', () => {
  it('ping, doctor, proxy and up say no key of a file that is wrong', { timeout: 300_000 }, async () => {
    const { text, server, secrets } = await loopback();
    const commands = { ping: [], doctor: ['--json'], proxy: ['--socks5', '0'], up: ['--log-format', 'json'] };
    const env = { STATE_DIRECTORY: folder.path };
    let refused = 0;
    for (const [what, broken] of brokenFiles(text)) {
      const file = await folder.write('broken.conf', broken);
      // All read files alike: every one by the first command, some by the others.
      const by = Object.entries(commands).slice(0, said.length % 3 === 0 ? undefined : 1);
      const tried = by.map(async ([command, options]) => {
        const outcome = await sealane([command, file, ...options], '', env);
        if (outcome.code !== 0) refused++;
        listen(`${command} with ${what}`, outcome);
      });
      await Promise.all(tried);
    }
    expect(refused).toBe(said.length);
    await server.close();
    expectNone(secrets);
  });

  it('ping, doctor, proxy, status and rekey say none of a good one', { timeout: 300_000 }, async () => {
    const { text, server, secrets } = await loopback();
    const file = await folder.write('good.conf', text);
    const env = { STATE_DIRECTORY: folder.path, XDG_RUNTIME_DIR: folder.path, ...TALKATIVE };
    for (const args of [
      ['ping', file, '--count', '1'],
      ['ping', file, '--count', '1', '--json', '--rekey'],
      ['doctor', file, '--timeout', '1'],
      ['doctor', file, '--timeout', '1', '--json'],
    ]) {
      listen(args[0]!, await sealane(args, '', env));
    }
    const proxy = start([process.execPath, SEALANE, 'proxy', file, '--socks5', '0', '--name', 'secrets'], env);
    await proxy.says('SOCKS5');
    if (process.platform === 'linux') expect(look('proxy', proxy.child.pid)).toBe(true);
    for (const args of [
      ['status', 'secrets'],
      ['status', 'secrets', '--json'],
      ['rekey', 'secrets'],
      ['rekey', 'secrets', '--json'],
      ['rekey', 'secrets', secrets[0]!],
      ['sync', 'secrets', file],
    ]) {
      listen(args.slice(0, 2).join(' '), await sealane(args, '', env));
    }
    writeFileSync(file, text.replace(/PrivateKey = (.*)/, 'PrivateKey = $1$1'), { mode: 0o600 });
    proxy.child.kill('SIGHUP');
    listen('sync of a broken file', await sealane(['sync', 'secrets', file], '', env));
    proxy.child.kill('SIGTERM');
    listen('proxy', await proxy.ended);
    await server.close();
    expect(said.map(({ text: all }) => all).join('').length).toBeGreaterThan(1_000);
    // What was asked for by its private key is repeated by nobody either.
    expectNone(secrets);
  });

  it('sealaned peer and run say none, at any level and in any format', { timeout: 300_000 }, async () => {
    const scratch = new Scratch();
    await scratch.init();
    const file = join(scratch.folder, 'laptop.conf');
    const added = await scratch.must('peer', 'add', 'phone');
    const secrets = new Set(Array.from(added.matchAll(SECRET_LINE), ([, key]) => key!));
    expect(secrets.size).toBe(2);
    const [secret] = secrets;
    for (const args of [
      ['peer', 'add', 'laptop', '--out', file],
      ['peer', 'add', 'laptop', '--out', file],
      ['peer', 'add', 'wrong', '--public-key', `${secret}=`],
      ['peer', 'add', 'wrong', '--public-key', secret!.slice(1)],
      ['peer', 'list'],
      ['peer', 'list', '--json'],
      ['peer', 'show', 'phone'],
      ['peer', 'show', 'phone', '--json'],
      ['peer', 'set', 'phone', '--post-quantum'],
      ['peer', 'remove', 'laptop'],
      ['peer', 'remove', 'laptop'],
      ['status'],
      ['status', '--json'],
    ]) {
      listen(`sealaned ${args.slice(0, 2).join(' ')}`, await scratch.run(...args));
    }
    for (const format of FORMATS) {
      for (const level of LEVELS) {
        const options = ['--userspace', '--listen', '0', '--log-format', format, '--log-level', level];
        const server = launch(['run', '--state', scratch.state, ...options], { env: TALKATIVE });
        const ended = finish(server);
        // The least talkative does not say that it is ready.
        let port: number | undefined;
        await until('the server to run', async () => (port = await livePort(scratch)) !== undefined, 60_000);
        if (process.platform === 'linux') expect(look('sealaned run', server.pid)).toBe(true);
        const client = await connect(added, port!);
        expect(await client.reaches()).toBe(true);
        await client.tunnel.rekey();
        await client.close();
        server.kill('SIGHUP');
        server.kill('SIGTERM');
        listen(`sealaned run ${format} ${level}`, await ended);
      }
    }
    scratch.remove();
    expectNone(secrets);
  });
});

const reason = missing('wg', 'ping');

describe.skipIf(reason !== undefined)(`with an interface (${reason ?? 'in a namespace'})`, () => {
  it(
    'up, its status, sync, rekey and down say none, at any level and in any format',
    { timeout: 300_000 },
    async () => {
      await using lab = await Lab.open();
      const host = await lab.host('a');
      const { text, server, secrets } = await loopback();
      await server.close();
      const env = { STATE_DIRECTORY: lab.folder, ...TALKATIVE };
      const own = async (...args: readonly string[]): Promise<void> => {
        const running = host.start(process.execPath, [SEALANE, ...args], env);
        await running.exit;
        listen(args[0]!, running);
      };
      const name = lab.interfaceName('s');
      // A command that waits, so that it can be looked at.
      const [entered, go] = [join(lab.folder, 'entered'), join(lab.folder, 'go')];
      const command = `PostUp = : > ${entered}; while [ ! -e ${go} ]; do sleep 0.05; done`;
      const hooked = await lab.file('hooked.conf', text.replace('[Peer]', `${command}\n[Peer]`));
      const waiting = host.start(process.execPath, [SEALANE, 'up', hooked, '--name', name], env);
      await until('its command to run', () => existsSync(entered), 45_000);
      const seen = await lookAtAll('up and its command', host);
      expect(seen).toContain(`INTERFACE=${name}`);
      expect(seen).toContain(hooked);
      await lab.file('go', '');
      await until('the tunnel to be up', () => waiting.stderr.includes(' is up: '), 45_000);
      await own('down', name);
      await waiting.exit;
      listen('up with a command', waiting);
      for (const format of FORMATS) {
        for (const level of LEVELS) {
          const file = await lab.file(`${name}.conf`, text);
          const options = ['--name', name, '--log-format', format, '--log-level', level];
          const up = host.start(process.execPath, [SEALANE, 'up', file, ...options], env);
          await until('the tunnel to be up', async () => (await host.run('wg', ['show', name])).code === 0, 45_000);
          await until('the route', async () => (await host.must('ip', ['route'])).includes(name), 45_000);
          expect(await lookAtAll('up', host)).toContain(file);
          if (level === 'info') {
            await own('status', name);
            await own('status', name, '--json');
            await own('rekey', name, '--timeout', '1');
            await own('sync', name, file);
            await own(
              'sync',
              name,
              await lab.file('broken.conf', text.replace(/PrivateKey = (.*)/, 'PrivateKey = $1$1')),
            );
          }
          await lab.file(`${name}.conf`, text.replace(/PresharedKey = .(.*)/, 'PresharedKey = $1'));
          up.child.kill('SIGHUP');
          await own('down', name);
          await up.exit;
          listen(`up ${format} ${level}`, up);
        }
      }
      expect(said.filter(({ by }) => by.startsWith('up ')).some(({ text: all }) => all.includes('is up'))).toBe(true);
      expectNone(secrets);
    },
  );

  it('device says none, whatever its control socket is told', { timeout: 300_000 }, async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const [own, peer, preshared] = [newKeyPair(), newKeyPair(), newKeyPair()];
    const name = lab.interfaceName('d');
    const device = host.start(process.execPath, [SEALANE, 'device', name], {
      STATE_DIRECTORY: lab.folder,
      ...TALKATIVE,
    });
    await until('the device to be ready', () => device.stderr.includes('is ready'), 45_000);
    const path = `/var/run/wireguard/${name}.sock`;
    const hex = (key: Uint8Array): string => Buffer.from(key).toString('hex');
    const [privateKey, publicKey, presharedKey] = [hex(own.privateKey), hex(peer.publicKey), hex(preshared.privateKey)];
    for (const lines of [
      `set=1\nprivate_key=${privateKey}\npublic_key=${publicKey}\npreshared_key=${presharedKey}\nallowed_ip=10.9.0.0/24`,
      `set=1\nprivate_key=${privateKey}00`,
      `set=1\nprivate_key=${privateKey.slice(1)}`,
      `set=1\n${privateKey}=1`,
      `set=1\npublic_key=${publicKey}\npreshared_key=${presharedKey.slice(2)}`,
      `set=1\nlisten_port=${privateKey}`,
      `set=1\npublic_key=${publicKey}\nendpoint=${presharedKey}`,
      `rekey=${privateKey}`,
      'status=1',
    ]) {
      listen(`the answer to ${lines.slice(0, 20)}`, { stdout: await control(path, [`${lines}\n\n`]), stderr: '' });
    }
    expect(await lookAtAll('device', host)).toContain(name);
    expect(await device.stop()).toBe(0);
    listen('device', device);
    expectNone([own.privateText, preshared.privateText]);
  });
});
