/** What `sealane sync` does to a running tunnel when the system or the tunnel refuses a part of it. */
import { writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { clientFile, systemOf, twoHosts, up } from './client-lab.ts';
import { sealane } from './client-support.ts';
import { Lab, missing } from '../support/lab.ts';

const reason = missing('wg');

describe.skipIf(reason !== undefined)(`sealane sync (${reason ?? 'between two namespaces'})`, () => {
  it('applies all or nothing, says why, and applies what is missing the next time', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const running = await up(lab, a, name, clientFile('10.88.0.0/24, 10.95.0.0/16'));
    await a.must('ip', ['route', 'add', '10.97.0.0/16', 'dev', 'va']);
    const stateNow = async (): Promise<string> => `${await systemOf(a)}${await a.must('wg', ['showconf', name])}`;
    const before = await stateNow();
    const wanted = clientFile('10.88.0.0/24, 10.96.0.0/16, 10.97.0.0/16')
      .replace('10.88.0.2/32', '10.88.0.2/32, 10.88.7.2/32')
      .replace('MTU = 1400', 'MTU = 1380');
    const file = await lab.file('wanted.conf', wanted);

    const refused = await sealane(['sync', name, file]);
    expect(refused.stderr).toContain(
      `${name} did not take ${file} over: 'ip route add 10.97.0.0/16 dev ${name}' failed: `,
    );
    expect(refused.code).toBe(1);
    expect(running.stderr).toContain(`not reloaded: 'ip route add 10.97.0.0/16 dev ${name}' failed: File exists`);
    expect(await stateNow()).toBe(before);

    await a.must('ip', ['route', 'delete', '10.97.0.0/16', 'dev', 'va']);
    expect(await sealane(['sync', name, file])).toMatchObject({ code: 0, stderr: '' });
    const routes = await a.must('ip', ['route']);
    for (const route of ['10.96.0.0/16', '10.97.0.0/16']) expect(routes).toContain(`${route} dev ${name}`);
    expect(routes).not.toContain('10.95.0.0/16');
    expect(await a.must('ip', ['address', 'show', name])).toMatch(/mtu 1380[^]*inet 10\.88\.7\.2\/32/);
    expect(await a.must('wg', ['show', name, 'allowed-ips'])).toContain('10.96.0.0/16 10.97.0.0/16');
    expect(await running.stop()).toBe(0);
  });

  it('tells a file that cannot be followed from a system that refuses', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const text = clientFile('10.88.0.0/24');
    const running = await up(lab, a, name, text);
    const before = await systemOf(a);
    const file = await lab.file('table.conf', text);
    await writeFile(file, text.replace('[Peer]', 'Table = off\n[Peer]'));
    const { code, stderr } = await sealane(['sync', name, file]);
    expect(stderr).toContain(`${name} did not take ${file} over: ${file}: Table cannot change while the tunnel is up`);
    expect(code).toBe(2);
    expect(running.stderr).toContain(`not reloaded: ${file}: Table cannot change while the tunnel is up`);
    expect(await systemOf(a)).toBe(before);
    expect(await running.stop()).toBe(0);
  });

  it('leaves the MTU of a full tunnel as it is: its own route is no way to the endpoint', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['link', 'set', 'va', 'mtu', '1450']);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
    const name = lab.interfaceName('a');
    const text = clientFile('0.0.0.0/0, ::/0').replace('MTU = 1400\n', '').replace('192.168.88.2:', '203.0.113.1:');
    const running = await up(lab, a, name, text);
    const mtu = async (): Promise<number> =>
      Number(/ mtu (\d+) /.exec(await a.must('ip', ['-o', 'link', 'show', name]))?.[1]);
    expect(await mtu()).toBe(1_370);
    const file = await lab.file(`${name}.conf`, text);
    expect(await sealane(['sync', name, file])).toMatchObject({ code: 0, stderr: '' });
    expect(await mtu()).toBe(1_370);
    // Without IPv6 inside there is no smallest MTU to keep.
    await a.must('ip', ['link', 'set', 'va', 'mtu', '1280']);
    const narrow = text.replace(', fd08::2/128', '').replace(', ::/0', '');
    expect(await running.stop()).toBe(0);
    const second = await up(lab, a, name, narrow);
    expect(await mtu()).toBe(1_200);
    expect(await second.stop()).toBe(0);
  });

  it('moves to another address of the same network, and keeps every route', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('sysctl', ['-qw', 'net.ipv4.conf.default.promote_secondaries=0']);
    const name = lab.interfaceName('a');
    const first = clientFile('0.0.0.0/0, 10.96.0.0/16').replace('10.88.0.2/32', '10.88.0.2/24');
    const running = await up(lab, a, name, first);
    const before = await systemOf(a);
    for (const [from, to] of [
      ['10.88.0.2', '10.88.0.3'],
      ['10.88.0.3', '10.88.0.2'],
    ] as const) {
      const file = await lab.file(`${name}.conf`, first.replace('10.88.0.2/24', `${to}/24`));
      expect(await sealane(['sync', name, file])).toMatchObject({ code: 0, stderr: '' });
      const address = await a.must('ip', ['-4', 'address', 'show', name]);
      expect(address).toContain(`inet ${to}/24`);
      expect(address).not.toContain(from);
      expect(await a.must('ip', ['-4', 'route', 'show', 'table', 'all'])).toMatch(
        new RegExp(`^default dev ${name} table \\d+`, 'm'),
      );
    }
    expect(await systemOf(a)).toBe(before);
    expect(await running.stop()).toBe(0);
  });
});
