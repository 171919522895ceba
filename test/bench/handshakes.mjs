/** Handshakes a second that one end completes as responder (P5): a process in the other namespace begins them. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { newKeys } from './keys.mjs';
import { OUTER, PORTS, startEnd, stopEnd, within } from './namespaces.mjs';

const SOURCE = fileURLToPath(new URL('./handshake-source.mjs', import.meta.url));

/**
 * @param {import('./namespaces.mjs').End} end
 * @param {{ initiators?: number, each?: number }} options each initiator begins so many handshakes
 * @returns {Promise<number>} handshakes a second
 */
export async function handshakeRate(end, { initiators = 500, each = 12 } = {}) {
  const keys = newKeys();
  const source = within('a', process.execPath, [SOURCE]);
  source.stderr.pipe(process.stderr, { end: false });
  const lines = createInterface({ input: source.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  const [address] = OUTER.b;
  source.stdin.write(`${JSON.stringify({ address, port: PORTS.b, publicKey: keys.publicKey, initiators, each })}\n`);
  /** @type {string[]} */
  const publicKeys = JSON.parse(await next());
  const peers = publicKeys.map((publicKey, i) => ({ publicKey, allowedIps: [`10.86.${i >> 8}.${i & 255}/32`] }));
  const responder = await startEnd('b', end, keys, peers);
  await next();
  const ended = once(source, 'exit');
  source.stdin.end('go\n');
  const { answered, refused, lost, rate } = JSON.parse(await next());
  await ended;
  await stopEnd(responder);
  // A few may be lost on the way; cookies would say that another thing was measured.
  if (refused > 0 || lost > answered / 100) {
    throw new Error(`${answered} handshakes answered, ${refused} met with cookies, ${lost} lost: no fair measure`);
  }
  return rate;
}
