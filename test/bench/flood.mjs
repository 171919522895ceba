/**
 * A flood of datagrams, for measurements inside of namespaces: `node flood.mjs JSON`, where JSON has `kind`, `rate` (a second), `seconds`,
 * `target`, `port`, `sources` (addresses of ours to send from) and `publicKey` (the target's, hexadecimal). Prints how many left.
 *
 *   junk       full-size datagrams: data of unknown sessions, random bytes, and one in eight of any type and length
 *   initiation initiations with a valid mac1, which takes the target's public key and nothing else
 *   badmac     the same with a wrong one
 *   cookie     cookie replies to nothing
 *   sink       sends nothing: holds the port, and reads nothing
 */
import { getRandomValues, randomInt } from 'node:crypto';
import { nobleCrypto } from '@sealane/protocol';
import { addressOf, foreign } from '../../packages/tunnel/dist/linux/foreign.js';

const { kind, rate, seconds, target, port, sources, publicKey } = JSON.parse(process.argv[2] ?? '{}');
const VARIETY = 2_048;
const FULL = 1_452;
const BURST = 5;
const MMSGHDR = 64;
const name = new Uint8Array(new ArrayBuffer(16));

const socket = foreign('int socket(int, int, int)');
const bind = foreign('int bind(int, uintptr_t, unsigned int)');
const join = foreign('int connect(int, uintptr_t, unsigned int)');
const sendmmsg = foreign('int sendmmsg(int, uintptr_t, unsigned int, int)');
const usleep = foreign('int usleep(unsigned int)');

if (kind === 'sink') hold();
const messages = Array.from({ length: VARIETY }, () => message());
const headers = layOut();
const sockets = sources.map(open);
console.log(JSON.stringify({ sent: run() }));

/** Bursts, each from another source, as many as are due; never more at once than a tenth of a second's. */
function run() {
  const from = performance.now();
  let sent = 0;
  for (let burst = 0; ; burst++) {
    const elapsed = performance.now() - from;
    if (elapsed >= seconds * 1_000) return sent;
    const due = (elapsed * rate) / 1_000;
    if (due - sent > rate / 10) sent = due - rate / 10;
    if (sent >= due) {
      usleep(500);
      continue;
    }
    const at = headers + ((burst * BURST) % (VARIETY - BURST)) * MMSGHDR;
    sent += Math.max(0, sendmmsg(sockets[burst % sockets.length], at, BURST, 0));
  }
}

/** struct mmsghdr of every message, in a row. */
function layOut() {
  const memory = new DataView(new ArrayBuffer(VARIETY * (MMSGHDR + 16 + FULL)));
  const bytes = new Uint8Array(memory.buffer);
  const base = addressOf(bytes);
  // What C reads lives as long as the process does.
  globalThis.flood = bytes;
  for (const [i, content] of messages.entries()) {
    const vector = VARIETY * MMSGHDR + i * 16;
    const data = VARIETY * (MMSGHDR + 16) + i * FULL;
    bytes.set(content, data);
    memory.setBigUint64(i * MMSGHDR + 16, BigInt(base + vector), true);
    memory.setBigUint64(i * MMSGHDR + 24, 1n, true);
    memory.setBigUint64(vector, BigInt(base + data), true);
    memory.setBigUint64(vector + 8, BigInt(content.length), true);
  }
  return base;
}

function open(source) {
  const fd = socket(2, 2, 0);
  if (bind(fd, address(source, 0), 16) !== 0) throw new Error(`cannot send from ${source}`);
  if (join(fd, address(target, port), 16) !== 0) throw new Error(`no route to ${target}`);
  return fd;
}

/** Until it is killed. */
function hold() {
  if (bind(socket(2, 2, 0), address(target, port), 16) !== 0) throw new Error(`cannot bind ${target}:${port}`);
  console.log('ready');
  for (;;) usleep(100_000);
}

/** struct sockaddr_in; the next call overwrites it. */
function address(text, number) {
  name.set([2, 0, number >> 8, number & 0xff, ...text.split('.').map(Number)]);
  return addressOf(name);
}

function message() {
  if (kind === 'junk') {
    const any = randomInt(8) === 0;
    const bytes = getRandomValues(new Uint8Array(any ? randomInt(FULL + 1) : FULL));
    if (randomInt(8) !== 0) bytes.set([any ? 1 + randomInt(4) : 4, 0, 0, 0].slice(0, bytes.length));
    return bytes;
  }
  if (kind === 'cookie') {
    const bytes = getRandomValues(new Uint8Array(64));
    bytes.set([3, 0, 0, 0]);
    return bytes;
  }
  const bytes = getRandomValues(new Uint8Array(148));
  bytes.set([1, 0, 0, 0]);
  if (kind === 'initiation') {
    const key = nobleCrypto.hash(new TextEncoder().encode('mac1----'), Buffer.from(publicKey, 'hex'));
    bytes.set(nobleCrypto.mac(key, bytes.subarray(0, 116)), 116);
    bytes.fill(0, 132);
  }
  return bytes;
}
