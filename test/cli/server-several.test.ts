/**
 * Two `sealaned run` with TUN interfaces on one host, whose forwarding was off:
 *
 *   alice [192.168.66.2] ==veth== [192.168.66.1] server [203.0.113.1] ==veth== [203.0.113.2] outside
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SEALANE } from './client-support.ts';
import { State, systemOf } from './server-lab.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'nft');
const PORT = '51821';

async function reaches(from: Host, to: string): Promise<boolean> {
  return (await ping(from, to, { count: 2 })).received > 0;
}

async function forwarding(host: Host): Promise<string> {
  return (await host.must('sysctl', ['-n', 'net.ipv4.ip_forward'])).trim();
}

describe.skipIf(reason !== undefined)(
  `two servers on a host (${reason ?? 'in namespaces'})`,
  { timeout: 300_000 },
  () => {
    it('pass the traffic of each other, and the last one to end puts forwarding back', async () => {
      await using lab = await Lab.open();
      const [server, alice, outside] = [await lab.host('s'), await lab.host('a'), await lab.host('o')];
      await lab.join(alice, 'wa', ['192.168.66.2/30'], server, 'va', ['192.168.66.1/30']);
      await lab.join(outside, 'vo', ['203.0.113.2/24'], server, 'wan', ['203.0.113.1/24']);
      await outside.must('ip', ['route', 'add', '192.168.66.0/30', 'via', '203.0.113.1']);
      const one = await State.make(lab, server, 'one');
      const other = await State.make(lab, server, 'other', '10.8.0.0/24', `192.168.66.1:${PORT}`);
      const file = join(lab.folder, `${lab.interfaceName('a')}.conf`);
      const networks = ['--allowed-ips', '10.8.0.0/24,203.0.113.0/24'];
      const added = await other.call(server, 'peer', 'add', 'alice', ...networks, '--out', file);
      expect(added.code, added.stderr).toBe(0);
      const before = await systemOf(server);

      const first = await one.run(server, lab.interfaceName('s'));
      const second = await other.run(server, lab.interfaceName('t'), '--listen', PORT);
      const client = alice.start(process.execPath, [SEALANE, 'up', file], { STATE_DIRECTORY: lab.folder });
      await until('the client to be up', () => client.stderr.includes(' is up: '), 90_000);
      // The first hears of the second by a message of the kernel.
      await until('the outside to be reached', () => reaches(alice, '203.0.113.2'), 30_000);
      expect(await reaches(outside, '192.168.66.2')).toBe(false);
      expect(first.stdout).not.toContain('somebody changed our nftables table');

      expect(await first.stop(), first.stderr).toBe(0);
      expect(await forwarding(server)).toBe('1');
      expect(await reaches(alice, '203.0.113.2')).toBe(true);
      expect(await reaches(outside, '192.168.66.2')).toBe(false);
      expect(await second.stop(), second.stderr).toBe(0);
      expect(await systemOf(server)).toBe(before);
    });

    it('leave to the other one what it will put back, be it by sealaned down', async () => {
      await using lab = await Lab.open();
      const server = await lab.host('s');
      const [one, other] = [
        await State.make(lab, server, 'one'),
        await State.make(lab, server, 'other', '10.8.0.0/24'),
      ];
      const before = await systemOf(server);
      const [name, otherName] = [lab.interfaceName('s'), lab.interfaceName('t')];
      await one.killed(server, name);
      const second = await other.run(server, otherName);
      expect(second.stdout).toContain(
        `a killed server left the nftables table inet sealaned-${name}, which may drop what ${otherName} forwards`,
      );
      await second.stop('SIGKILL');
      const down = await one.call(server, 'down');
      expect(down.stdout, down.stderr).toBe(`undone: nftables table inet sealaned-${lab.interfaceName('s')}\n`);
      expect(await forwarding(server)).toBe('1');
      expect((await other.call(server, 'status')).stdout).toContain('net.ipv4.ip_forward');
      expect((await other.call(server, 'down')).stdout).toContain('net.ipv4.ip_forward');
      expect(await systemOf(server)).toBe(before);
    });
  },
);
