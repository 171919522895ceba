/** What others reach at our tunnel address: `sealane proxy -R` as an unprivileged process, its peer a tunnel of the test. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import * as http from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { parseAddress as parseIpAddress } from '@sealane/netstack';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import {
  formatConfig,
  openConnection,
  openTunnel,
  parseAddress,
  parsePrefix,
  StackDevice,
  TunnelNetwork,
  type TunnelConfig,
} from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { parseRemoteForward } from '../../packages/client/src/proxy/address.ts';
import { openProxy } from '../../packages/client/src/proxy/open-proxy.ts';
import { tcp } from '../../packages/netstack/test/support/packets.ts';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();
const PEER = '127.88.0.1';
const OWN = '127.88.0.2';

function configOf(
  own: Uint8Array,
  address: string,
  other: Uint8Array,
  otherAddress: string,
  port?: number,
): TunnelConfig {
  return {
    interface: {
      privateKey: own,
      addresses: [{ address: parseAddress(address)!, length: 32 }],
      dns: { servers: [], search: [] },
      table: 'auto',
      preUp: [],
      postUp: [],
      preDown: [],
      postDown: [],
      saveConfig: false,
    },
    peers: [
      {
        publicKey: nobleCrypto.publicKey(other),
        allowedIps: [parsePrefix(otherAddress)!],
        endpoints: port === undefined ? [] : [`127.0.0.1:${port}`],
      },
    ],
  };
}

describe('a forward from the tunnel', () => {
  it('closes although the other side of a handshake is gone', async () => {
    const own = parseIpAddress(OWN)!;
    const device = new StackDevice({ name: 'own', mtu: 1420, addresses: [parseAddress(OWN)!] });
    const network = new TunnelNetwork(device, { families: [4] });
    const proxy = await openProxy({ remote: [parseRemoteForward('80:127.0.0.1:1')] }, network);
    const syn = tcp({ from: parseIpAddress(PEER)!, fromPort: 1, to: own, toPort: 80, seq: 1, flags: 's' });
    device.write(syn, 0, syn.length);
    expect(device.stack.status().halfOpen).toBe(1);
    await proxy.close();
    const again = await openProxy({ remote: [parseRemoteForward('80:127.0.0.1:1')] }, network);
    await again.close();
    await device.close();
  });
});

describe.skipIf(lacking !== undefined)(`-R (${lacking ?? 'without privileges'})`, () => {
  it('dials here what the peer asks for at our tunnel address, by TCP and UDP', async () => {
    const [peerKey, ownKey] = [1, 2].map(() =>
      generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))),
    );
    await using peer = await openTunnel(configOf(peerKey!, PEER, ownKey!, OWN));
    const { listenPort } = await peer.status();
    await using world = await RootlessWorld.withConfig(
      formatConfig(configOf(ownKey!, OWN, peerKey!, PEER, listenPort)),
    );

    const web = http.createServer((request, response) => response.end(`here ${request.url}\n`)).listen(0, '127.0.0.1');
    const echo = createSocket('udp4');
    echo.on('message', (message, from) => echo.send(message, from.port, from.address));
    echo.bind(0, '127.0.0.1');
    const closed = createServer().listen(0, '127.0.0.1');
    await Promise.all([once(web, 'listening'), once(echo, 'listening'), once(closed, 'listening')]);
    const closedPort = (closed.address() as AddressInfo).port;
    closed.close();
    await once(closed, 'close');

    const proxy = await world.proxy(
      '-R',
      `80:127.0.0.1:${(web.address() as AddressInfo).port}`,
      '-R',
      `81:127.0.0.1:${closedPort}`,
      '-R',
      `53:127.0.0.1:${echo.address().port}/udp`,
      '-R',
      `54:127.0.0.1:${closedPort}/udp`,
    );
    await proxy.said(/first session/);

    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      http.get({ agent: peer.agent(), host: OWN, path: '/page' }, resolve).once('error', reject);
    });
    let page = '';
    for await (const chunk of response) page += String(chunk);
    expect(page).toBe('here /page\n');

    const refused = await openConnection(peer.network, { host: OWN, port: 81 });
    const [error] = (await once(refused.resume(), 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    await expect(openConnection(peer.network, { host: OWN, port: 82 })).rejects.toMatchObject({ code: 'ECONNREFUSED' });

    const socket = peer.createSocket('udp4');
    const answered = once(socket, 'message') as Promise<[Uint8Array]>;
    socket.send(Buffer.from('ping'), 53, OWN);
    expect(Buffer.from((await answered)[0]).toString()).toBe('ping');

    // The system here refuses: the peer's socket hears of it, as from any host.
    const deaf = peer.createSocket('udp4');
    deaf.connect(54, OWN);
    await once(deaf, 'connect');
    const refusal = once(deaf, 'error') as Promise<unknown[]>;
    deaf.send(Buffer.from('ping'));
    expect((await refusal)[0]).toMatchObject({ code: 'ECONNREFUSED', address: OWN, port: 54 });
    await proxy.said(new RegExp(`127\\.0\\.0\\.1:${closedPort}/udp: the port is closed: datagrams are lost`));
    web.closeAllConnections();
    web.close();
    echo.close();
  });
});
