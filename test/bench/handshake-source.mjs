/**
 * Begins handshakes with a responder as fast as it answers, 64 under way at most, which keeps it from asking for cookies. One line of
 * JSON on standard input says whom; answers with the public keys of its initiators, waits for a second line, and prints the rate.
 *
 * All initiations are made beforehand, so that little but the responder's work is measured.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Device, generatePrivateKey } from '@sealane/protocol';
import { selectCrypto } from '@sealane/tunnel';
import { random } from './keys.mjs';

const UNDER_WAY = 64;
/** Milliseconds after which an initiation counts as lost, and its place is taken by the next. */
const LOST = 1_000;
const RESPONSE_LENGTH = 92;

const lines = createInterface({ input: process.stdin });
const [setting] = await once(lines, 'line');
/** @type {{ address: string, port: number, publicKey: string, initiators: number, each: number }} */
const { address, port, publicKey, initiators, each } = JSON.parse(setting);
const suite = selectCrypto();
const responder = new Uint8Array(Buffer.from(publicKey, 'base64'));
const endpoint = { address: Uint8Array.from(address.split('.'), Number), port, scopeId: 0 };

const keys = Array.from({ length: initiators }, () => generatePrivateKey(random));
console.log(JSON.stringify(keys.map((key) => Buffer.from(suite.publicKey(key)).toString('base64'))));
/** @type {Uint8Array[]} */
const initiations = [];
const devices = keys.map((privateKey) => {
  const device = new Device({ crypto: suite, random });
  device.configure({ privateKey, peers: [{ publicKey: responder, endpoint }] }, 0);
  return device;
});
// Each round is a second later than the one before: responders take no timestamp twice.
const began = Date.now() - each * 1_000;
for (let round = 0; round < each; round++) {
  const now = 1 + round * 10_000;
  for (const device of devices) {
    device.rekey(undefined, now);
    // The one of the round before is repeated beside it.
    const [initiation] = device.tick(now, began + round * 1_000).datagrams;
    if (initiation !== undefined) initiations.push(initiation.bytes);
  }
}
console.log(`made ${initiations.length}`);
await once(lines, 'line');

const socket = createSocket('udp4');
socket.bind(0);
await once(socket, 'listening');
let sent = 0;
let answered = 0;
let refused = 0;
let lost = 0;
let last = performance.now();
/** @type {(value: unknown) => void} */
let finish = () => {};
const finished = new Promise((resolve) => (finish = resolve));
const more = () => {
  while (sent < initiations.length && sent - answered - refused - lost < UNDER_WAY) {
    socket.send(initiations[sent++] ?? new Uint8Array(), port, address);
  }
  if (sent === initiations.length && answered + refused + lost >= sent) finish(undefined);
};
socket.on('message', ({ length }) => {
  if (length === RESPONSE_LENGTH) answered += 1;
  else refused += 1;
  last = performance.now();
  more();
});
const watch = setInterval(() => {
  if (performance.now() - last < LOST) return;
  lost = sent - answered - refused;
  last = performance.now();
  more();
}, 100);
const start = performance.now();
more();
await finished;
const seconds = (last - start) / 1_000;
clearInterval(watch);
socket.close();
console.log(JSON.stringify({ answered, refused, lost, rate: answered / seconds }));
process.exit(0);
