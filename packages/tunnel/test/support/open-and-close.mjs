// Opens two tunnels, pings through them and closes everything; then nothing may keep this process alive.
import { generatePrivateKey } from '@sealane/protocol';
import { EchoClient, EchoHost, memoryPair, openTunnel, selectCrypto } from '@sealane/tunnel';

const [here, there] = [1, 2].map((last) => Uint8Array.of(127, 78, 0, last));
const [ours, theirs] = [1, 2].map(() => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))));
const publicKey = (privateKey) => selectCrypto().publicKey(privateKey);
const [serverDevice, hostDevice] = memoryPair();
const [clientDevice, echoDevice] = memoryPair();
const host = new EchoHost({ device: hostDevice, addresses: [there] });
const echo = new EchoClient({ device: echoDevice, addresses: [here] });
const server = await openTunnel({
  device: serverDevice,
  config: {
    privateKey: theirs,
    peers: [{ publicKey: publicKey(ours), allowedIps: [{ address: here, length: 32 }], persistentKeepalive: 25 }],
  },
});
const { listenPort } = await server.status();
const endpoint = { address: Uint8Array.of(127, 0, 0, 1), port: listenPort, scopeId: 0 };
const client = await openTunnel({
  device: clientDevice,
  config: {
    privateKey: ours,
    peers: [{ publicKey: publicKey(theirs), allowedIps: [{ address: there, length: 32 }], endpoint }],
  },
});
if ((await echo.ping({ target: there })) === undefined) throw new Error('no echo');
await Promise.all([echo.close(), host.close(), client.close(), server.close()]);
