/**
 * The soak's traffic: `node traffic.mjs echo PORT` gives back what it gets over TCP and UDP, `node traffic.mjs send HOST PORT` sends to
 * one, checks every byte that comes back and prints its counts as a line of JSON a second. A line `rate N` on its standard input limits
 * it to N bytes a second over TCP; until then it sends as fast as it can.
 */
import { createCipheriv } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** A prime, so that a shift of the stream never looks right. */
const PERIOD = 65_521;
/** Two periods in a row: what begins in the first is whole. */
const pattern = (() => {
  const once = createCipheriv('aes-128-ctr', Buffer.alloc(16, 3), Buffer.alloc(16)).update(Buffer.alloc(PERIOD));
  return Buffer.concat([once, once]);
})();
const CHUNK = 32_768;
const TICK = 10;
/** Bytes under way at most, so that a slow tunnel is not measured by its queues. */
const WINDOW = 4 * 2 ** 20;
const DATAGRAM = 1_200;
const RECONNECT_AFTER = 500;
/** Ticks without a byte after which a connection counts as broken: longer than any flap of a link. Ticks, as a process may be stopped. */
const SILENCE = 60_000 / TICK;

const [, , mode, ...rest] = process.argv;
if (mode === 'echo') echo(Number(rest[0]));
else send(rest[0], Number(rest[1]));

function echo(port) {
  createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  }).listen(port, '0.0.0.0', () => console.log('ready'));
  const udp = createSocket({ type: 'udp4', recvBufferSize: 2 ** 21 });
  udp.on('error', () => undefined);
  udp.on('message', (bytes, { port: to, address }) => udp.send(bytes, to, address));
  udp.bind(port);
}

function send(host, port) {
  const counts = { sent: 0, back: 0, wrong: 0, broken: 0, connections: 0 };
  const datagrams = { sent: 0, back: 0, wrong: 0, twice: 0, refused: 0 };
  let rate = Infinity;
  createInterface({ input: process.stdin }).on('line', (line) => (rate = Number(line.split(' ')[1])));
  stream(host, port, counts, () => rate);
  messages(host, port, datagrams, () => rate);
  setInterval(
    () => console.log(JSON.stringify({ rate: Number.isFinite(rate) ? rate : 0, ...counts, datagrams })),
    1_000,
  );
}

/** One TCP connection, made anew when it breaks. */
function stream(host, port, counts, rate) {
  const socket = connect({ host, port, noDelay: true });
  let position = 0;
  let returned = 0;
  let credit = 0;
  let connected = false;
  let last = performance.now();
  let silent = 0;
  const pump = () => {
    const now = performance.now();
    credit = Math.min(credit + (rate() * (now - last)) / 1_000, Math.max(CHUNK, rate() / 10));
    last = now;
    while (credit >= CHUNK && position - returned < WINDOW && socket.writableLength < WINDOW) {
      socket.write(pattern.subarray(position % PERIOD, (position % PERIOD) + CHUNK));
      position += CHUNK;
      credit -= CHUNK;
      counts.sent += CHUNK;
    }
  };
  const timer = setInterval(() => {
    silent += 1;
    if (silent > SILENCE) socket.destroy();
    pump();
  }, TICK);
  socket.on('connect', () => {
    connected = true;
    counts.connections += 1;
  });
  socket.on('data', (bytes) => {
    silent = 0;
    for (let at = 0; at < bytes.length; at += PERIOD) {
      const part = bytes.subarray(at, at + PERIOD);
      const from = (returned + at) % PERIOD;
      if (part.compare(pattern, from, from + part.length) !== 0) counts.wrong += 1;
    }
    returned += bytes.length;
    counts.back += bytes.length;
    if (rate() === Infinity) pump();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    clearInterval(timer);
    if (connected) counts.broken += 1;
    setTimeout(() => stream(host, port, counts, rate), RECONNECT_AFTER);
  });
}

/** Numbered datagrams, a tenth of the stream's bytes once that has a rate. */
function messages(host, port, counts, rate) {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 2 ** 21 });
  const message = Buffer.from(pattern.subarray(0, DATAGRAM));
  /** The numbers that came back, of the last 2^16. */
  const seen = new Uint8Array(2 ** 16);
  let credit = 0;
  socket.on('error', () => (counts.refused += 1));
  socket.on('message', (bytes) => {
    const number = bytes.length === DATAGRAM ? bytes.readUInt32LE(0) : -1;
    if (number < 0 || bytes.compare(message, 4, DATAGRAM, 4) !== 0) {
      counts.wrong += 1;
      return;
    }
    if (counts.sent - number > seen.length / 2) return;
    if (seen[number & 0xffff] === 1) counts.twice += 1;
    seen[number & 0xffff] = 1;
    counts.back += 1;
  });
  socket.connect(port, host, () => {
    setInterval(() => {
      if (rate() === Infinity) return;
      for (credit += (rate() / 10_000) * TICK; credit >= DATAGRAM; credit -= DATAGRAM) {
        const copy = Buffer.from(message);
        copy.writeUInt32LE(counts.sent, 0);
        seen[counts.sent & 0xffff] = 0;
        counts.sent += 1;
        socket.send(copy);
      }
    }, TICK);
  });
}
