/** Endpoints that change: names that stand for another address after a while, through the hosts file of the namespace, and several of one peer. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, twoHosts, up } from './client-lab.ts';
import { newKeyPair } from './client-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';

const reason = missing('ping', 'wg', 'nft');

/** The names of a host, for as long as it is not disposed of. */
async function hostsFile(host: Host): Promise<AsyncDisposable & { readonly write: (lines: string) => Promise<void> }> {
  const folder = `/etc/netns/${host.name}`;
  await mkdir(folder, { recursive: true });
  return {
    write: (lines) => writeFile(`${folder}/hosts`, lines),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

async function reaches(host: Host, target: string): Promise<boolean> {
  return (await host.run('ping', ['-c', '1', '-W', '1', target])).code === 0;
}

describe.skipIf(reason !== undefined)(`endpoints of sealane up (${reason ?? 'between two namespaces'})`, () => {
  it('looks names up again and moves to the new address', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await using hosts = await hostsFile(a);
    await hosts.write('192.168.88.77 vpn.test\n');
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const name = lab.interfaceName('a');
    const text = clientFile('10.88.0.0/24', 'SaveConfig = true').replace('192.168.88.2:51888', 'vpn.test:51888');
    const here = await up(lab, a, name, text, '--resolve-every', '1', '--log-format', 'json');
    expect(await a.must('wg', ['show', name, 'endpoints'])).toContain('192.168.88.77:51888');
    await hosts.write('192.168.88.2 vpn.test\n');
    await until('the new address', async () =>
      (await a.must('wg', ['show', name, 'endpoints'])).includes('192.168.88.2:51888'),
    );
    await until('an answer', () => reaches(a, '10.88.0.1'), 30_000);
    const entries = here.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; message: string });
    expect(entries.map(({ event }) => event)).toEqual(expect.arrayContaining(['up', 'endpoint']));
    expect(entries.some(({ message }) => message.includes('has a new address, 192.168.88.2:51888'))).toBe(true);
    expect(await here.stop()).toBe(0);
    expect(await readFile(join(lab.folder, `${name}.conf`), 'utf8')).toContain('Endpoint = vpn.test:51888\n');
  });

  it('remembers every name behind a kill switch, also after one of them was looked up again', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await using hosts = await hostsFile(a);
    await hosts.write('192.168.88.77 one.test\n192.168.88.78 two.test\n');
    const name = lab.interfaceName('a');
    const second = `[Peer]\nPublicKey = ${newKeyPair().publicText}\nAllowedIPs = 10.89.0.0/24\nEndpoint = two.test:51889\n`;
    const text = clientFile('10.88.0.0/24').replace('192.168.88.2:51888', 'one.test:51888') + second;
    const options = ['--kill-switch', '--resolve-every', '1'];
    const first = await up(lab, a, name, text, ...options);
    await hosts.write('192.168.88.79 one.test\n');
    const endpoints = (): Promise<string> => a.must('wg', ['show', name, 'endpoints']);
    await until('the new address of the first', async () => (await endpoints()).includes('192.168.88.79:51888'));
    expect(await first.stop('SIGKILL')).not.toBe(0);

    await hosts.write('');
    const again = await up(lab, a, name, text, ...options);
    expect(await endpoints()).toContain('192.168.88.79:51888');
    expect(await endpoints()).toContain('192.168.88.78:51889');
    expect(await again.stop()).toBe(0);
  });

  it.concurrent('looks names up again when handshakes are not answered, without an interval', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await using hosts = await hostsFile(a);
    await hosts.write('192.168.88.77 vpn.test\n');
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const name = lab.interfaceName('a');
    const text = clientFile('10.88.0.0/24').replace('192.168.88.2:51888', 'vpn.test:51888');
    const here = await up(lab, a, name, text, '--resolve-every', '0');
    const endpoint = (): Promise<string> => a.must('wg', ['show', name, 'endpoints']);
    expect(await endpoint()).toContain('192.168.88.77:51888');
    await hosts.write('192.168.88.2 vpn.test\n');
    a.start('ping', ['-i', '0.5', '10.88.0.1']);
    await until('the new address', async () => (await endpoint()).includes('192.168.88.2:51888'), 120_000);
    await until('an answer', () => reaches(a, '10.88.0.1'), 60_000);
    expect(await here.stop()).toBe(0);
  }, 300_000);

  // More than a minute, of which nearly all is waiting: the first is asked again only then.
  it.concurrent("goes over to the second of 'Endpoint = a, b' when the first is silent, and back when it answers", async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const c = await lab.host('c');
    await lab.join(a, 'va2', ['192.168.89.1/24'], c, 'vc', ['192.168.89.2/24']);
    const first = await up(lab, b, lab.interfaceName('b'), SERVER);
    await up(lab, c, lab.interfaceName('c'), SERVER);
    const name = lab.interfaceName('a');
    const both = '192.168.88.2:51888, 192.168.89.2:51888';
    const here = await up(lab, a, name, clientFile('10.88.0.0/24').replace('192.168.88.2:51888', both));
    const endpoint = (): Promise<string> => a.must('wg', ['show', name, 'endpoints']);
    a.start('ping', ['-i', '0.2', '10.88.0.1']);
    await until('an answer of the first', () => reaches(a, '10.88.0.1'), 60_000);
    expect(await endpoint()).toContain('192.168.88.2:51888');

    await first.stop('SIGKILL');
    await until('the second', async () => (await endpoint()).includes('192.168.89.2:51888'), 120_000);
    await until('an answer of the second', () => reaches(a, '10.88.0.1'), 60_000);
    expect(here.stderr).toContain('is silent, trying 192.168.89.2:51888');

    await up(lab, b, lab.interfaceName('b'), SERVER);
    await until('the first again', () => here.stderr.includes('is back at 192.168.88.2:51888'), 240_000);
    expect(await endpoint()).toContain('192.168.88.2:51888');
    await until('an answer of the first again', () => reaches(a, '10.88.0.1'), 60_000);
    expect(await here.stop()).toBe(0);
  }, 480_000);
});
