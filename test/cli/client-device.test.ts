import { existsSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runSealane } from './client-lab.ts';
import { newKeyPair, sealane, SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Running, until } from '../support/lab.ts';
import { expectFewPrivileges, NET_ADMIN_AND_BIND } from '../support/privileges.ts';

const reason = missing('wg');

function socketOf(name: string): string {
  return `/var/run/wireguard/${name}.sock`;
}

async function startDevice(lab: Lab, host: Host, name: string, ...options: readonly string[]): Promise<Running> {
  const env = { STATE_DIRECTORY: lab.folder };
  const running = host.start(process.execPath, [SEALANE, 'device', name, ...options], env);
  await until(`${name} to be ready`, () => running.stderr.includes('is ready'));
  return running;
}

async function hasInterface(host: Host, name: string): Promise<boolean> {
  return (await host.run('ip', ['link', 'show', name])).code === 0;
}

describe.skipIf(reason !== undefined)(`sealane device (${reason ?? 'in a namespace of its own'})`, () => {
  it('is configured and shown by the stock wg, with few privileges', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name);
    const [own, peer, presharedKey] = [newKeyPair(), newKeyPair(), newKeyPair()];
    const file = await lab.file(
      'wg.conf',
      `[Interface]\nPrivateKey = ${own.privateText}\nListenPort = 51899\n[Peer]\nPublicKey = ${peer.publicText}\n` +
        `PresharedKey = ${presharedKey.privateText}\nAllowedIPs = 10.9.0.0/24, fd09::/64\nEndpoint = 127.0.0.1:9\n` +
        'PersistentKeepalive = 25\n',
    );
    await host.must('wg', ['setconf', name, file]);
    await host.must('ip', ['link', 'set', 'up', 'dev', name]);
    await until(
      'the socket to be open',
      async () => (await host.must('wg', ['show', name, 'listen-port'])) === '51899\n',
    );
    expectFewPrivileges(device.child.pid!, NET_ADMIN_AND_BIND);
    expect(await host.must('wg', ['show', name, 'public-key'])).toBe(`${own.publicText}\n`);
    expect(await host.must('wg', ['show', name, 'dump'])).toContain(
      `${peer.publicText}\t${presharedKey.privateText}\t127.0.0.1:9\t10.9.0.0/24,fd09::/64\t0\t0\t`,
    );
    expect(await host.must('wg', ['showconf', name])).toContain(`PrivateKey = ${own.privateText}`);
    expect((await stat(socketOf(name))).mode & 0o777).toBe(0o600);

    const status = await sealane(['status', name, '--json']);
    expect(JSON.parse(status.stdout)).toMatchObject({ name, publicKey: own.publicText, up: true });
    expect(status.stdout + (await sealane(['status', name])).stdout).not.toContain(own.privateText);
    expect(device.stderr).not.toContain(own.privateText);
    expect(await device.stop()).toBe(0);
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s removes interface and socket', async (signal) => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name);
    expect(await hasInterface(host, name)).toBe(true);
    expect(await device.stop(signal)).toBe(0);
    expect(await hasInterface(host, name)).toBe(false);
    expect(existsSync(socketOf(name))).toBe(false);
  });

  it('ends when its interface is deleted', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name);
    await host.must('ip', ['link', 'del', name]);
    expect(await device.exit).toBe(0);
    expect(device.stderr).toContain(`the interface ${name} was deleted`);
    expect(existsSync(socketOf(name))).toBe(false);
  });

  it('ends when it is asked to by sealane down', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name);
    expect(await sealane(['down', name])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await device.exit).toBe(0);
    expect(await hasInterface(host, name)).toBe(false);
  });

  it('refuses a name that is live, and leaves the live one alone', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name);
    const second = await runSealane(host, 'device', name);
    expect(second.code).toBe(1);
    expect(second.stderr).toBe(
      `sealane: ${name} is in use: a tunnel of this name is running (${socketOf(name)} answers)\n`,
    );
    expect(await host.must('wg', ['show', name, 'listen-port'])).toMatch(/^\d+\n$/);
    expect(await hasInterface(host, name)).toBe(true);
    expect(await device.stop()).toBe(0);
  });

  it.each(['linux', 'portable'])(
    'says in status why the %s lane has no socket, for as long as it has none',
    async (lane) => {
      await using lab = await Lab.open();
      const host = await lab.host('a');
      const name = lab.interfaceName('d');
      const other = host.start(process.execPath, [
        '-e',
        "require('node:dgram').createSocket('udp4').bind(51999, () => console.log('bound'))",
      ]);
      await until('the port to be taken', () => other.stdout.includes('bound'));
      await startDevice(lab, host, name, '--lane', lane);
      const status = async (): Promise<unknown> => JSON.parse((await sealane(['status', name, '--json'])).stdout);
      // An interface that is down has no sockets yet.
      await host.must('wg', ['set', name, 'listen-port', '51999']);
      expect(await status()).not.toHaveProperty('socketProblem');
      await host.must('ip', ['link', 'set', 'up', 'dev', name]);
      await until('the problem to be told', async () => Object.hasOwn((await status()) as object, 'socketProblem'));
      expect(await status()).toMatchObject({
        lane,
        up: true,
        socketProblem: expect.stringMatching(/^UDP port 51999 \(IPv4\) is in use/) as string,
      });
      await host.must('wg', ['set', name, 'listen-port', '51998']);
      expect(await status()).toMatchObject({ listenPort: 51_998, up: true });
      expect(await status()).not.toHaveProperty('socketProblem');
    },
  );

  it('stands in for wireguard-go under wg-quick', async ({ skip }) => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const program = missing('wg-quick', 'bash');
    if (program !== undefined) skip(program);
    if ((await host.run('ip', ['link', 'add', name, 'type', 'wireguard'])).code === 0) skip('the kernel has WireGuard');
    const wrapper = join(lab.folder, 'wrapper');
    const script = `#!/bin/sh\nexec ${process.execPath} ${SEALANE} device --detach "$1"\n`;
    await writeFile(wrapper, script, { mode: 0o755 });
    const own = newKeyPair();
    const file = await lab.file(
      `${name}.conf`,
      `[Interface]\nPrivateKey = ${own.privateText}\nAddress = 10.9.0.1/24\n`,
    );
    const env = [`STATE_DIRECTORY=${lab.folder}`, `WG_QUICK_USERSPACE_IMPLEMENTATION=${wrapper}`];
    // What is left in the background must not keep our pipes open either: wg-quick's caller waits for their end.
    const started = await host.run('env', [...env, 'timeout', '-s', 'KILL', '40', 'wg-quick', 'up', file]);
    expect(started.code, started.stderr).toBe(0);
    expect(started.stderr).toContain(`${name} runs in the background`);
    expect(await host.must('wg', ['show', name, 'public-key'])).toBe(`${own.publicText}\n`);
    expect(await host.must('ip', ['address', 'show', name])).toContain('10.9.0.1/24');
    await host.must('wg-quick', ['down', file]);
    await until('the device to end', () => !existsSync(socketOf(name)));
  });

  it('takes the flag that keeps wireguard-go in the foreground, and says in the background why it cannot start', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const device = await startDevice(lab, host, name, '-f');
    const second = await host.run('timeout', [
      '-s',
      'KILL',
      '40',
      process.execPath,
      SEALANE,
      'device',
      name,
      '--detach',
    ]);
    expect(second.stderr).toContain(`${name} is in use`);
    expect(second.code).toBe(1);
    const both = await runSealane(host, 'device', name, '--detach', '-f');
    expect(both.code).toBe(2);
    expect(await device.stop()).toBe(0);
  });

  it('takes an interface that was made beforehand, unless another program has it open, and leaves it there', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    await host.must('ip', ['tuntap', 'add', name, 'mode', 'tun']);
    await host.must('ip', ['link', 'set', name, 'mtu', '1300']);
    const first = await startDevice(lab, host, name);
    expect(await host.must('wg', ['show', name, 'listen-port'])).toMatch(/^\d+\n$/);
    // Elsewhere its control socket does not answer: the interface itself is what is in use.
    const words = ['--mount', 'sh', '-c', 'mount -t tmpfs none /run && exec "$@"', 'sh', process.execPath, SEALANE];
    const second = await host.run('unshare', [...words, 'device', name]);
    expect(second.stderr).toContain(`the interface ${name} is in use by another program`);
    expect(second.code).toBe(1);
    expect(await first.stop()).toBe(0);
    expect(await host.must('ip', ['link', 'show', name])).toContain('mtu 1300');
  });

  it('refuses the name of an interface that is none of ours', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    await host.must('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
    const refused = await runSealane(host, 'device', name);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^sealane: [^\n]+\n$/);
    expect(refused.stderr).toContain(name);
    expect(existsSync(socketOf(name))).toBe(false);
    expect(await hasInterface(host, name)).toBe(true);
  });

  it('takes over what a killed one left', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const name = lab.interfaceName('d');
    const killed = await startDevice(lab, host, name);
    await killed.stop('SIGKILL');
    expect(existsSync(socketOf(name))).toBe(true);
    const device = await startDevice(lab, host, name);
    expect(await host.must('wg', ['show', name, 'listen-port'])).toMatch(/^\d+\n$/);
    expect(await device.stop()).toBe(0);
    expect(existsSync(socketOf(name))).toBe(false);
  });
});
