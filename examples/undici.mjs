// Fetches a page with undici through a tunnel of this process: node examples/undici.mjs CONFIG URL
import { openTunnel } from '@sealane/tunnel';
import { fetch } from 'undici';

const [config, url] = process.argv.slice(2);
const tunnel = await openTunnel(config);
const dispatcher = tunnel.dispatcher();
try {
  const response = await fetch(url, { dispatcher });
  console.log(response.status, await response.text());
} finally {
  await dispatcher.close();
  await tunnel.close();
}
