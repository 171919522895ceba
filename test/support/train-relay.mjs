/**
 * A UDP relay that forwards what it receives in trains (UDP_SEGMENT), now and then with a datagram in the middle forged or the last
 * one cut short: `node train-relay.mjs PORT TARGET-IPV4 TARGET-PORT`. Prints `ready`, and its counts as JSON when it gets SIGTERM.
 */
import { addressOf } from '../../packages/tunnel/dist/linux/foreign.js';
import { lowBuffer } from '../../packages/tunnel/dist/linux/low-memory.js';
import { LinuxUdp } from '../../packages/tunnel/dist/linux/udp.js';

const [port, target, targetPort] = process.argv.slice(2);
const inside = LinuxUdp.open({ family: 'ipv4', port: 0, mark: 0 });
const outside = LinuxUdp.open({ family: 'ipv4', port: Number(port), mark: 0 });
const server = { address: Uint8Array.from(target.split('.'), Number), port: Number(targetPort), scopeId: 0 };
const counts = { datagrams: 0, trains: 0, forged: 0, shortened: 0 };
const bytes = new Uint8Array(lowBuffer(2 ** 16));
const at = addressOf(bytes);
let client;

/** Passes on what waits on one socket; false when nothing did. */
function forward(from, to, endpoint) {
  const length = from.receive(at, bytes.length);
  if (length <= 0) return false;
  if (from === outside) client = from.endpoint;
  const segment = Math.max(1, from.segment);
  const count = Math.ceil(length / segment);
  counts.datagrams += count;
  let size = length;
  if (count > 2) {
    counts.trains += 1;
    if (counts.trains % 5 === 0) {
      counts.forged += 1;
      bytes[(count >> 1) * segment + (counts.trains % segment)] ^= 0x40;
    }
    if (counts.trains % 7 === 0) {
      counts.shortened += 1;
      size -= Math.min(9, (length % segment || segment) - 1);
    }
  }
  const destination = endpoint();
  if (destination !== undefined) to.send(destination, at, size, Math.min(segment, size), 0);
  return true;
}

function turn() {
  let moved = 0;
  while (moved < 64 && forward(outside, inside, () => server)) moved += 1;
  while (moved < 128 && forward(inside, outside, () => client)) moved += 1;
  if (moved > 0) setImmediate(turn);
  else setTimeout(turn, 1);
}

process.on('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(counts)}\n`, () => process.exit(0));
});
process.stdout.write('ready\n', turn);
