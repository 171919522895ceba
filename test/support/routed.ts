/** A client, a router and a server: two links in a row. */
import type { Host, Lab } from './lab.ts';
import { keyPair, WireguardDevice } from './wireguard.ts';
import type { Implementation } from './wireguard.ts';

export interface RoutedPair {
  readonly client: Host;
  readonly router: Host;
  readonly server: Host;
  readonly device: WireguardDevice;
  readonly serverDevice: WireguardDevice;
  readonly serverKeys: { readonly publicKey: string };
}

/**
 * A client behind a router, with the whole of IPv4 as its peer's allowed IPs but no routes to it yet.
 *
 *   client [vc 192.168.1.2] == [rc 192.168.1.1] router [rs 192.168.2.1] == [vs 192.168.2.2] server
 *   10.77.0.1                                                              10.77.0.2, 10.99.0.1
 */
export async function routedPair(
  lab: Lab,
  implementations: readonly [Implementation, Implementation],
): Promise<RoutedPair> {
  const [client, router, server] = [await lab.host('c'), await lab.host('n'), await lab.host('s')];
  await lab.join(client, 'vc', ['192.168.1.2/24'], router, 'rc', ['192.168.1.1/24']);
  await lab.join(router, 'rs', ['192.168.2.1/24'], server, 'vs', ['192.168.2.2/24']);
  await router.must('sysctl', ['-q', '-w', 'net.ipv4.ip_forward=1']);
  await client.must('sysctl', ['-q', '-w', 'net.ipv4.conf.all.rp_filter=0']);
  await client.must('ip', ['route', 'add', 'default', 'via', '192.168.1.1']);
  await server.must('ip', ['route', 'add', 'default', 'via', '192.168.2.1']);
  const [clientKeys, serverKeys] = [await keyPair(), await keyPair()];
  const serverDevice = await WireguardDevice.start(lab, server, implementations[1], 's', {
    keys: serverKeys,
    port: 51002,
    addresses: ['10.77.0.2/24', '10.99.0.1/32'],
    peers: [{ publicKey: clientKeys.publicKey, allowedIps: ['10.77.0.1/32'] }],
  });
  const device = await WireguardDevice.start(lab, client, implementations[0], 'c', {
    keys: clientKeys,
    port: 51001,
    addresses: ['10.77.0.1/24'],
    peers: [],
  });
  // No IPv6: its router solicitations would keep a NAT's mapping alive.
  await device.wg(
    'set',
    device.name,
    'peer',
    serverKeys.publicKey,
    'endpoint',
    '192.168.2.2:51002',
    'allowed-ips',
    '0.0.0.0/0',
  );
  return { client, router, server, device, serverDevice, serverKeys };
}
