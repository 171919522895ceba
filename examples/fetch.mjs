// Fetches pages through a tunnel of this process: node examples/fetch.mjs CONFIG URL...
import { get } from 'node:http';
import { openTunnel } from '@sealane/tunnel';

const [config, ...urls] = process.argv.slice(2);
if (config === undefined || urls.length === 0) {
  console.error('usage: node examples/fetch.mjs CONFIG URL...');
  process.exit(2);
}
const tunnel = await openTunnel(config);
try {
  tunnel.on('session', ({ handshakeMs }) => console.error(`session after ${handshakeMs} ms`));
  const agent = tunnel.agent();
  for (const url of urls) {
    // Every request names the agent: without it, it would use this computer's own network.
    const response = await new Promise((resolve, reject) => get(url, { agent }, resolve).once('error', reject));
    for await (const chunk of response) process.stdout.write(chunk);
  }
} finally {
  await tunnel.close();
}
