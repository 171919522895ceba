/**
 * What is too big for the way from the userspace server to a destination, told to a client inside the tunnel:
 *
 *   client [192.168.77.1] ==veth== [192.168.77.2] server [10.98.0.1] ==1500== [10.98.0.2] router [10.99.0.1] ==1300== [10.99.0.2] far
 *   TUN 10.77.0.2, MTU 1420        sealaned --userspace                                                      UDP echo
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Host, Lab, until } from '../support/lab.ts';
import { missingFor, WireguardDevice } from '../support/wireguard.ts';
import { configureDevice, startServerIn } from './namespaced.ts';
import { missingPrograms } from './rootless.ts';

const lacking = missingFor([], 'wg', 'ss') ?? missingPrograms();
const PEER = fileURLToPath(new URL('../netstack/peer.mjs', import.meta.url));
const ECHOES = fileURLToPath(new URL('./udp-echoes.mjs', import.meta.url));
const FAR = { 4: '10.99.0.2', 6: 'fd99:2::2' } as const;
const NARROW = 1_300;

/** A client with an interface, whose tunnel ends at a server two links away from the far host, the last one narrow. */
async function openPath(lab: Lab): Promise<Host> {
  const [client, server, router, far] = [
    await lab.host('client'),
    await lab.host('server'),
    await lab.host('router'),
    await lab.host('far'),
  ];
  await lab.join(client, 'vc', ['192.168.77.1/24'], server, 'vs', ['192.168.77.2/24']);
  await lab.join(server, 'v1', ['10.98.0.1/24', 'fd99:1::1/64'], router, 'v2', ['10.98.0.2/24', 'fd99:1::2/64']);
  await lab.join(router, 'v3', ['10.99.0.1/24', 'fd99:2::1/64'], far, 'v4', [`${FAR[4]}/24`, `${FAR[6]}/64`]);
  for (const [host, link] of [
    [router, 'v3'],
    [far, 'v4'],
  ] as const)
    await host.must('ip', ['link', 'set', link, 'mtu', String(NARROW)]);
  await router.must('sysctl', ['-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  for (const [host, via4, via6] of [
    [server, '10.98.0.2', 'fd99:1::2'],
    [far, '10.99.0.1', 'fd99:2::1'],
  ] as const) {
    await host.must('ip', ['route', 'add', 'default', 'via', via4]);
    await host.must('ip', ['-6', 'route', 'add', 'default', 'via', via6]);
  }
  for (const host of Object.values(FAR)) {
    const echo = far.start('node', [PEER, JSON.stringify({ role: 'udpEcho', host, port: 53 })]);
    await until('the echo to listen', () => echo.stdout.includes('ready'));
  }
  const { peer } = await startServerIn(lab, server, {
    address: '192.168.77.2',
    pool: '10.77.0.0/24,fd77::/64',
    allowedIps: '10.0.0.0/8,fd00::/8',
  });
  const device = await WireguardDevice.open(lab, client, 'sealane', 'c');
  await configureDevice(lab, client, device.name, peer, 1_420);
  await client.must('ip', ['route', 'add', '10.0.0.0/8', 'dev', device.name]);
  await client.must('ip', ['route', 'add', 'fd00::/8', 'dev', device.name]);
  return client;
}

describe.skipIf(lacking !== undefined)(
  `a narrow link behind the userspace server (${lacking ?? 'of namespaces'})`,
  () => {
    it(
      'is told to a client whose datagrams must not be cut up, and what it sends then arrives',
      { timeout: 180_000 },
      async () => {
        await using lab = await Lab.open();
        const client = await openPath(lab);
        for (const [family, host, flag] of [
          [4, FAR[4], '-4'],
          [6, FAR[6], '-6'],
        ] as const) {
          // The client's kernel sends whole, and cuts up what is larger than it knows the path to be.
          const headers = family === 4 ? 28 : 48;
          const largest = 1_420 - headers;
          const sizes = [100, largest, 5_000, NARROW - headers];
          const echoed = await client.must('node', [ECHOES, JSON.stringify({ host, port: 53, sizes })]);
          expect(JSON.parse(echoed), host).toEqual(sizes);
          expect(await client.must('ip', [flag, 'route', 'get', host]), host).toContain(`mtu ${NARROW}`);
        }
      },
    );
  },
);
