/**
 * Cost against size (P11): processor time a packet of both ends while one TCP stream runs, with more peers, more allowed IPs and more
 * streams. Flat means within a fifth of the smallest.
 */
import { newKeys, silentPeers, unusedPrefixes } from './keys.mjs';
import { cpuOf, INNER, rssOf, run, startPair, stopPair, within } from './namespaces.mjs';

/** Payload of a full TCP segment: MTU 1420 less IPv4 and TCP headers with timestamps. */
const SEGMENT = 1_368;
/** iperf3 takes 128 streams a process. */
const MOST_STREAMS = 125;

export const SIZES = { peers: [1, 100, 10_000], allowedIps: [10, 1_000, 100_000], streams: [1, 10, 100, 1_000] };
/** @typedef {{ size: number, nanoseconds: number, rss: number }} Cost */

/**
 * @param {import('./namespaces.mjs').End} end
 * @param {number} seconds
 * @returns {Promise<Record<keyof typeof SIZES, Cost[]>>}
 */
export async function costBySize(end, seconds) {
  /** @type {Record<keyof typeof SIZES, Cost[]>} */
  const costs = { peers: [], allowedIps: [], streams: [] };
  for (const size of SIZES.peers)
    costs.peers.push(await cost(end, seconds, size, { extraPeers: silentPeers(size - 1) }));
  for (const size of SIZES.allowedIps)
    costs.allowedIps.push(await cost(end, seconds, size, { extraAllowed: unusedPrefixes(size) }));
  for (const size of SIZES.streams) costs.streams.push(await cost(end, seconds, size, {}, size));
  return costs;
}

/** @type {(end: import('./namespaces.mjs').End, seconds: number, size: number, more: object, streams?: number) => Promise<Cost>} */
async function cost(end, seconds, size, more, streams = 1) {
  const pair = await startPair({ a: end, b: end }, { a: newKeys(), b: newKeys() }, more);
  // Code that runs for the first time is compiled meanwhile.
  await load(streams, 1);
  const before = cpuOf(pair.a.pid) + cpuOf(pair.b.pid);
  const bytes = await load(streams, seconds);
  const used = cpuOf(pair.a.pid) + cpuOf(pair.b.pid) - before;
  const rss = rssOf(pair.b.pid);
  await stopPair(pair);
  return { size, nanoseconds: (used * 1e6) / (bytes / SEGMENT), rss };
}

/** @type {(streams: number, seconds: number) => Promise<number>} */
async function load(streams, seconds) {
  const processes = Array.from({ length: Math.ceil(streams / MOST_STREAMS) }, async (_, i) => {
    const port = String(5_201 + i);
    const server = within('b', 'iperf3', ['-s', '-1', '-p', port, '--forceflush']);
    await new Promise((resolve) => server.stdout.once('data', resolve));
    const count = Math.min(MOST_STREAMS, streams - i * MOST_STREAMS);
    const args = ['-c', INNER.b[0], '-p', port, '-t', String(seconds), '-P', String(count), '-J'];
    const report = JSON.parse(await run('a', 'iperf3', args));
    server.kill('SIGKILL');
    return Number(report.end.sum_received.bytes);
  });
  return (await Promise.all(processes)).reduce((sum, bytes) => sum + bytes, 0);
}
