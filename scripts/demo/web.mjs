import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { readStatus, requestRekey } from '@sealane/tunnel';
import { mebibytes, megabits } from './display.mjs';
import { plural } from './observer.mjs';

const CHUNK = 2 ** 18;
/** Milliseconds that a renewal may take. */
const REKEY_LIMIT = 10_000;
const PAGE = '<!doctype html><title>Sealane</title><p>This page came through the tunnel.</p>\n';

/** A web server of this computer that only the tunnel's far side is to reach: a page, and a file of `bytes` random bytes. */
export async function serveWeb(bytes, undo) {
  const hash = createHash('sha256');
  const chunks = [];
  // A stream cipher over zeros: the same for both who need it, and nothing that a shortcut could compress.
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  for (let left = bytes; left > 0; left -= CHUNK) {
    const chunk = cipher.update(Buffer.alloc(Math.min(CHUNK, left)));
    hash.update(chunk);
    chunks.push(chunk);
  }
  const server = createServer((incoming, response) => {
    if (incoming.url !== '/file') {
      response.setHeader('Content-Type', 'text/html');
      response.end(PAGE);
      return;
    }
    response.setHeader('Content-Length', bytes);
    Readable.from(chunks).pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { port, bytes, sha256: hash.digest('hex') };
}

/** Fetches page and file through `sealane proxy --socks5` and checks them; renews the session in the middle of the file. */
export async function fetchThroughProxy({ web, config, state, directory, display, processes }) {
  const socks = join(directory, 'socks5.sock');
  const proxy = processes.program('sealane', ['proxy', config, '--socks5', socks, '--name', 'sealane-demo']);
  const failed = proxy.done.then(({ code, stderr }) => {
    throw new Error(`sealane proxy ended with exit code ${code}: ${stderr.trim()}`);
  });
  failed.catch(() => undefined);
  const control = join(state, 'control.sock');

  const page = await Promise.race([get(socks, web.port, '/'), failed]);
  let text = '';
  for await (const chunk of page) text += chunk;
  check(text === PAGE, 'the page is not the one that was served');
  display.step(
    'web page',
    `${page.statusCode}, ${text.length} bytes through SOCKS5, process ${proxy.child.pid}, no root`,
  );

  const before = await sessionsOf(control);
  const started = performance.now();
  const file = await Promise.race([get(socks, web.port, '/file'), failed]);
  const hash = createHash('sha256');
  let received = 0;
  let shown = started;
  let rekeyed = false;
  for await (const chunk of file) {
    hash.update(chunk);
    received += chunk.length;
    if (!rekeyed && received > web.bytes / 2) {
      rekeyed = true;
      check((await requestRekey(control)) === 1, 'no rekey was begun');
      // The rest of a small file could otherwise be here before the new session.
      const end = performance.now() + REKEY_LIMIT;
      while ((await sessionsOf(control)) === before && performance.now() < end) await sleep(20);
    }
    const now = performance.now();
    if (now - shown < 200) continue;
    shown = now;
    display.live(`${mebibytes(received)} of ${mebibytes(web.bytes)}, ${megabits(received, now - started)}`);
  }
  const elapsed = performance.now() - started;
  check(hash.digest('hex') === web.sha256, `the file is not the one that was served: ${received} bytes came`);
  const rekeys = (await sessionsOf(control)) - before;
  check(rekeys >= 1, 'there was no rekey in the middle of the file');
  display.step(
    'file',
    `${mebibytes(received)} at ${megabits(received, elapsed)}, SHA-256 as served, ${plural(rekeys, 'rekey')} in the middle`,
  );
  await processes.end(proxy);
  return received;
}

/** How many sessions the server's only peer has had. */
async function sessionsOf(control) {
  return (await readStatus(control)).peers[0]?.sessions ?? 0;
}

/** A GET through the SOCKS5 proxy at a Unix socket; waits until the proxy listens. */
async function get(socks, port, path) {
  const socket = await dial(socks);
  // RFC 1928: no authentication; CONNECT to 127.0.0.1.
  socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 0xff));
  const answer = await read(socket, 12);
  check(answer[0] === 5 && answer[1] === 0 && answer[3] === 0, `the proxy refused with SOCKS reply ${answer[3]}`);
  const outgoing = request({ createConnection: () => socket, host: '127.0.0.1', port, path });
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  return response;
}

async function dial(path) {
  for (;;) {
    const socket = connect({ path });
    try {
      await once(socket, 'connect');
      return socket;
    } catch {
      await sleep(50);
    }
  }
}

function read(socket, length) {
  return new Promise((resolve, reject) => {
    const onReadable = () => {
      const bytes = socket.read(length);
      if (bytes === null) return;
      socket.removeListener('readable', onReadable);
      if (bytes.length === length) resolve(bytes);
      else reject(new Error('the proxy closed the connection'));
    };
    socket.on('readable', onReadable);
    socket.once('close', () => reject(new Error('the proxy closed the connection')));
  });
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}
