/** An endpoint name that stands for another address after a while, through the hosts file of the namespace. */
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
    await until('an answer', async () => (await a.run('ping', ['-c', '1', '-W', '1', '10.88.0.1'])).code === 0, 30_000);
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
});
