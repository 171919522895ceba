// Two tunnels of one process: one serves a page at its tunnel address, the other fetches it. Needs nothing: node examples/serve.mjs
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import { openTunnel, parseAddress } from '@sealane/tunnel';

const keys = [1, 2].map(() => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))));
const addresses = ['127.88.0.1', '127.88.0.2'].map(parseAddress);

/** The configuration of one end; the other end's port is known once it runs. */
function configOf(own, other, port) {
  return {
    interface: {
      privateKey: keys[own],
      addresses: [{ address: addresses[own], length: 24 }],
      dns: { servers: [], search: [] },
      table: 'off',
      preUp: [],
      postUp: [],
      preDown: [],
      postDown: [],
      saveConfig: false,
    },
    peers: [
      {
        publicKey: nobleCrypto.publicKey(keys[other]),
        allowedIps: [{ address: addresses[other], length: 32 }],
        endpoints: port === undefined ? [] : [`127.0.0.1:${port}`],
      },
    ],
  };
}

const serving = await openTunnel(configOf(0, 1));
const { listenPort } = await serving.status();
const fetching = await openTunnel(configOf(1, 0, listenPort));
try {
  const web = createServer((request, response) => response.end(`hello ${request.socket.remoteAddress}\n`));
  const listener = serving.createServer((socket) => web.emit('connection', socket));
  listener.listen({ port: 80 });
  await once(listener, 'listening');

  const options = { agent: fetching.agent(), host: '127.88.0.1' };
  const response = await new Promise((resolve, reject) => get(options, resolve).once('error', reject));
  for await (const chunk of response) process.stdout.write(chunk);
} finally {
  await fetching.close();
  await serving.close();
}
