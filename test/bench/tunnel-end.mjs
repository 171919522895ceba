/** One end of a tunnel for the benchmark: its configuration comes as one line of JSON on standard input; answers `ready`. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { openTun, openTunnel, parseAddress, parsePrefix } from '@sealane/tunnel';

const input = createInterface({ input: process.stdin });
const [line] = await once(input, 'line');
/** @type {{ name: string, mtu: number, lane: 'linux' | 'portable', lanes: number, listenPort: number, privateKey: string, peers: (import('./namespaces.mjs').BenchPeer & { cipherSuite?: 'chacha20poly1305' | 'aes256gcm' })[] }} */
const { name, mtu, lane, lanes, listenPort, privateKey, peers } = JSON.parse(line);
/** @param {string} text */
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const tunnel = await openTunnel({
  device: openTun({ name, mtu, queues: lanes }),
  lane,
  config: {
    privateKey: bytes(privateKey),
    listenPort,
    peers: peers.map(({ publicKey, endpoint, allowedIps, keepalive, cipherSuite }) => ({
      publicKey: bytes(publicKey),
      allowedIps: allowedIps.flatMap((text) => parsePrefix(text) ?? []),
      ...(keepalive !== undefined && { persistentKeepalive: keepalive }),
      ...(cipherSuite !== undefined && { cipherSuite }),
      ...(endpoint !== undefined && {
        endpoint: { address: parseAddress(endpoint.address) ?? new Uint8Array(4), port: endpoint.port, scopeId: 0 },
      }),
    })),
  },
});
console.log('ready');
input.on('close', () => void tunnel.close());
