// Talks TCP and UDP to an echo service behind a tunnel: node examples/sockets.mjs CONFIG HOST TCP-PORT UDP-PORT
import { once } from 'node:events';
import { openTunnel } from '@sealane/tunnel';

const [config, host, tcpPort, udpPort] = process.argv.slice(2);
const tunnel = await openTunnel(config);
try {
  const socket = tunnel.connect({ host, port: Number(tcpPort) });
  socket.write('hello over TCP\n');
  const [answer] = await once(socket, 'data');
  process.stdout.write(answer);
  socket.destroy();

  const datagrams = tunnel.createSocket('udp4');
  datagrams.send(Buffer.from('hello over UDP\n'), Number(udpPort), host);
  const [message, from] = await once(datagrams, 'message');
  process.stdout.write(message);
  console.log(`from ${from.address}:${from.port}`);
  datagrams.close();
} finally {
  await tunnel.close();
}
