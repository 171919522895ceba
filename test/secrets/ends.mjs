/**
 * One end of a tunnel between two processes: `node ends.mjs thread INTERFACE LANES`, whose packet threads are searched, and `node ends.mjs teller`,
 * whose cryptography tells the secrets that both ends share. Each prints its public key, takes the other's as a line of JSON, and then obeys
 * the words `rekey`, `send`, `status`, `add`, `remove` and `close`, printing a line after each.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { memoryPair, openTun, openTunnel, parseAddress, selectCrypto } from '@sealane/tunnel';
import { tell, telling } from './telling.mjs';

const [, , role, name, lanes = '1'] = process.argv;
const isThread = role === 'thread';
const PORT = 51_820;
const OUTER = { thread: '192.168.77.1', teller: '192.168.77.2' };
const INNER = { thread: '10.77.0.1', teller: '10.77.0.2' };
const other = isThread ? 'teller' : 'thread';
const say = (fields) => writeSync(1, `${JSON.stringify(fields)}\n`);

const plain = selectCrypto('native');
const privateKey = crypto.getRandomValues(new Uint8Array(new ArrayBuffer(32)));
privateKey[0] &= 248;
privateKey[31] = (privateKey[31] & 127) | 64;
if (isThread) tell('static', privateKey);
const publicKey = plain.publicKey(privateKey);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
say({ publicKey: Buffer.from(publicKey).toString('hex') });
const peerKey = new Uint8Array(Buffer.from(JSON.parse((await lines.next()).value).publicKey, 'hex'));
// Not where it is searched for.
if (!isThread) {
  const shared = plain.dh(privateKey, peerKey);
  tell('static shared', shared);
  shared.fill(0);
}

const [device, outside] = isThread
  ? [openTun({ name, mtu: 1_420, queues: Number(lanes) })]
  : memoryPair({ name: 'teller' });
outside?.start({ readable() {}, link() {}, closed() {} });
const endpoint = { address: parseAddress(OUTER[other]), port: PORT, scopeId: 0 };
const allowedIps = [{ address: parseAddress(INNER[other]), length: 32 }];
const peer = { publicKey: peerKey, endpoint, allowedIps };
const tunnel = await openTunnel({
  device,
  crypto: isThread ? plain : telling(plain),
  lane: isThread ? 'linux' : 'portable',
  config: { privateKey, listenPort: PORT, mtu: 1_420, peers: [peer] },
});
privateKey.fill(0);
say({ ready: tunnel.lane, lanes: (await tunnel.status()).lanes?.length ?? 1 });

const packet = new Uint8Array(40);
packet.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 253]);
packet.set(parseAddress(INNER[role]), 12);
packet.set(parseAddress(INNER[other]), 16);
const commands = {
  rekey: () => tunnel.rekey(),
  send: () => void outside.write(packet, 0, packet.length),
  status: () => {},
  add: () => tunnel.configure({ peers: [peer] }),
  remove: () => tunnel.configure({ peers: [{ publicKey: peerKey, remove: true }] }),
  close: () => tunnel.close(),
};
for (;;) {
  const { value, done } = await lines.next();
  if (done) break;
  await commands[value]();
  const [known] = value === 'close' ? [] : (await tunnel.status()).device.peers;
  say({ did: value, sessions: known?.sessions ?? 0, current: known?.session !== undefined });
}
process.exit(0);
