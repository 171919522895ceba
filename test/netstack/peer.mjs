/**
 * A program with ordinary sockets, for the far side of a stack: `node peer.mjs PLAN`, PLAN being JSON. It says `ready` when it
 * listens, and at the end what came of it, as one line of JSON. Streams are those of the stack's own tests.
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

const plan = JSON.parse(process.argv[2]);

function streamByte(seed, i) {
  return Math.imul(i + seed, 0x9e3779b1) >>> 24;
}

function streamBytes(seed, from, length) {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = streamByte(seed, from + i);
  return bytes;
}

/** Sends `send` bytes, reads and checks what comes, and ends as the plan says; resolves to what happened. */
function talk(socket, { send = 0, sendSeed = 1, receiveSeed = 2, pauseMs = 0, finish = 'end' }) {
  const result = { received: 0, wrongAt: -1, ended: false, error: null, pausedAt: 0 };
  let sent = 0;
  const pump = () => {
    while (sent < send) {
      const piece = streamBytes(sendSeed, sent, Math.min(65_536, send - sent));
      sent += piece.length;
      if (!socket.write(piece)) return;
    }
    if (finish === 'end') socket.end();
    if (finish === 'reset') socket.resetAndDestroy();
  };
  const read = (bytes) => {
    for (let i = 0; i < bytes.length && result.wrongAt < 0; i++) {
      if (bytes[i] !== streamByte(receiveSeed, result.received + i)) result.wrongAt = result.received + i;
    }
    result.received += bytes.length;
  };
  if (pauseMs === 0) socket.on('data', read);
  else setTimeout(() => socket.on('data', read), pauseMs);
  socket.on('drain', pump);
  socket.on('end', () => {
    result.ended = true;
    if (finish === 'after-peer') socket.end();
  });
  socket.on('error', (error) => (result.error = error.code));
  if (socket.connecting) socket.once('connect', pump);
  else pump();
  return new Promise((resolve) => socket.once('close', () => resolve(result)));
}

const roles = {
  async connect({ host, port, localPort, count = 1, ...talks }) {
    const results = await Promise.all(
      Array.from({ length: count }, () => talk(connect({ host, port, localPort, allowHalfOpen: true }), talks)),
    );
    return count === 1 ? results[0] : results;
  },

  listen({ host, port, ...talks }) {
    return new Promise((resolve) => {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        server.close();
        resolve(talk(socket, talks));
      });
      server.listen(port, host, () => console.log('ready'));
    });
  },

  udpEcho({ host, port }) {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', (message, from) => socket.send(message, from.port, from.address));
    socket.bind(port, host, () => console.log('ready'));
    return new Promise(() => {});
  },

  /** Sends datagrams of these sizes, each until its echo comes, to a connected socket. */
  async udpAsk({ host, port, sizes }) {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    await new Promise((resolve) => socket.connect(port, host, resolve));
    const echoed = [];
    let error = null;
    let wake = () => {};
    socket.on('message', (message) => {
      echoed.push(message.equals(streamBytes(3, 0, message.length)) ? message.length : -1);
      wake();
    });
    socket.on('error', (cause) => {
      error ??= cause.code;
      wake();
    });
    for (const size of sizes) {
      const before = echoed.length;
      for (let tries = 0; tries < 20 && echoed.length === before && error === null; tries++) {
        socket.send(streamBytes(3, 0, size));
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, 500);
        });
      }
    }
    socket.close();
    return { echoed, error };
  },
};

console.log(JSON.stringify(await roles[plan.role](plan)));
