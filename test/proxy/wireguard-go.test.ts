/**
 * A stock client with a TUN interface against the userspace server, which runs without any capability:
 *
 *   host client [192.168.77.1] ==veth== [192.168.77.2] host server, sealaned --userspace
 *   wireguard-go 10.77.0.2                             a web server on 192.168.77.2, TCP and UDP echo on 10.99.0.1
 */
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import { missingFor, WireguardDevice } from '../support/wireguard.ts';
import { configureDevice, startServerIn } from './namespaced.ts';
import { missingPrograms } from './rootless.ts';

const lacking = missingFor(['wireguard-go'], 'curl', 'ping', 'socat') ?? missingPrograms();

describe.skipIf(lacking !== undefined)(`wireguard-go (${lacking ?? 'is here'})`, () => {
  it('uses the userspace server as its way out', async () => {
    await using lab = await Lab.open();
    const client = await lab.host('client');
    const server = await lab.host('server');
    await lab.join(client, 'vc', ['192.168.77.1/24'], server, 'vs', ['192.168.77.2/24', '10.99.0.1/32']);

    const { peer } = await startServerIn(lab, server, {
      address: '192.168.77.2',
      pool: '10.77.0.0/24',
      allowedIps: '10.0.0.0/8,192.168.77.2/32',
    });

    // What it is to reach.
    server.start('socat', ['TCP-LISTEN:8080,bind=10.99.0.1,fork,reuseaddr', 'SYSTEM:cat']);
    server.start('socat', ['UDP-LISTEN:8081,bind=10.99.0.1,fork,reuseaddr', 'SYSTEM:cat']);
    await until('the echo services to listen', async () => (await server.must('ss', ['-Hltun'])).includes('8081'));

    const device = await WireguardDevice.open(lab, client, 'wireguard-go', 'c');
    await configureDevice(lab, client, device.name, peer, 1_420);
    await client.must('ip', ['route', 'add', '10.0.0.0/8', 'dev', device.name]);

    const ping = await client.run('ping', ['-c', '3', '-i', '0.2', '-W', '5', '10.77.0.1']);
    expect(ping.stdout).toContain('3 received');

    const size = 3_000_000;
    const tcp = await client.run('sh', ['-c', `head -c ${size} /dev/zero | socat -t 20 - TCP:10.99.0.1:8080 | wc -c`]);
    expect(tcp.stdout.trim()).toBe(String(size));
    const udp = await client.run('sh', ['-c', 'echo hello | socat -t 2 - UDP:10.99.0.1:8081']);
    expect(udp.stdout).toBe('hello\n');

    const refused = await client.run('curl', ['-sS', '--max-time', '10', 'http://10.99.0.1:9/']);
    expect([refused.code, refused.stderr]).toEqual([7, expect.stringMatching(/refused|Couldn't connect/)]);
    const noRoute = await client.run('curl', ['-sS', '--max-time', '10', 'http://10.1.2.3/']);
    expect(noRoute.code).toBe(7);
    const otherPeer = await client.run('curl', ['-sS', '--max-time', '10', 'http://10.77.0.3/']);
    expect(otherPeer.code).toBe(7);
  });
});
