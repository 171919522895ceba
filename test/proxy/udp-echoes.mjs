/** Sends a datagram of each size until it comes back whole: `node udp-echoes.mjs PLAN`, PLAN being JSON. Prints the sizes that did. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** @type {{ host: string, port: number, sizes: readonly number[] }} */
const { host, port, sizes } = JSON.parse(process.argv[2]);
const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
socket.connect(port, host);
await once(socket, 'connect');
// What the path does not take is said to the socket.
socket.on('error', () => undefined);
const echoed = [];
for (const size of sizes) {
  const message = Buffer.alloc(size, size);
  const back = new Promise((resolve) => {
    socket.on('message', (data) => {
      if (data.equals(message)) resolve(undefined);
    });
  });
  const again = setInterval(() => socket.send(message, () => undefined), 200);
  socket.send(message, () => undefined);
  await back;
  clearInterval(again);
  echoed.push(size);
}
console.log(JSON.stringify(echoed));
socket.close();
