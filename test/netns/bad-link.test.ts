/** Tunnels over links that lose, double, corrupt and reorder datagrams: what arrives arrives once, and sessions come up. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import type { Host, Running } from '../support/lab.ts';
import { counter, firewall, sendAllTwice } from '../support/packets.ts';
import { INNER, missingFor, OUTER, PAIRS, ping, wireguardPair } from '../support/wireguard.ts';

const RELAY = fileURLToPath(new URL('../support/relay.mjs', import.meta.url));
const RELAY_PORT = 51_900;

describe.concurrent.for(PAIRS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft');

  it('connects over a link that loses 30 % each way, and loses no more than the link', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, implementations);
    for (const [host, link] of [
      [a.host, 'va'],
      [b.host, 'vb'],
    ] as const) {
      await firewall(
        host,
        `table inet lab {
          counter came {}
          counter lost {}
          chain in { type filter hook input priority 0
            iifname ${link} meta l4proto udp counter name came numgen random mod 100 < 30 counter name lost drop
          }
        }`,
      );
    }
    // The first handshake and its repetitions every 5 s, half of which get through.
    const first = ping(a.host, INNER.b4, { count: 300, interval: 0.2, timeout: 85_000, extra: ['-w', '60'] });
    // Awaited at the end, if the test comes that far.
    first.catch(() => undefined);
    await until('a session', async () => (await a.latestHandshake()) > 0 && (await b.latestHandshake()) > 0, 58_000);
    // About half of 200 pings come back: 98 with a deviation of 7.
    const result = await ping(a.host, INNER.b6, { count: 200, interval: 0.02 });
    expect(result.received).toBeGreaterThan(60);
    expect(result.received).toBeLessThan(140);
    expect(result.duplicates).toBe(0);
    expect((await counter(b.host, 'lost')).packets).toBeGreaterThan(30);
    await stopPings(a.host);
    expect((await first).duplicates).toBe(0);
  }, 90_000);

  it('delivers each packet once when every datagram comes twice', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const pair = await wireguardPair(lab, implementations);
    const { a, b } = pair;
    await sendAllTwice(pair, implementations);
    for (const [host, link] of [
      [a.host, 'va'],
      [b.host, 'vb'],
    ] as const) {
      await firewall(
        host,
        `table inet lab {
          counter came {}
          chain in { type filter hook input priority 0
            iifname ${link} meta l4proto udp counter name came
          }
        }`,
      );
    }
    const delivered = async (host: Host, name: string): Promise<number> =>
      Number(await host.must('cat', [`/sys/class/net/${name}/statistics/rx_packets`]));
    const before = [await delivered(a.host, a.name), await delivered(b.host, b.name)];
    expect(await ping(a.host, INNER.b4, { count: 50, interval: 0.02 })).toEqual({
      sent: 50,
      received: 50,
      duplicates: 0,
    });
    expect((await delivered(a.host, a.name)) - before[0]!).toBe(50);
    expect((await delivered(b.host, b.name)) - before[1]!).toBe(50);
    // The copies did come; some fall victim to address resolution and to a busy machine.
    for (const host of [a.host, b.host]) expect((await counter(host, 'came')).packets).toBeGreaterThanOrEqual(75);
  }, 90_000);

  it('puts up with a link that reorders, doubles and corrupts', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, implementations);
    const relay = await startRelay(b.host, { seed: 7, delay: 0.25, depth: 200, duplicate: 0.1, corrupt: 0.01 });
    await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', `${OUTER.b4}:${RELAY_PORT}`);
    await until('a session', async () => (await ping(a.host, INNER.b4, { count: 1 })).received === 1, 45_000);
    const result = await ping(a.host, INNER.b4, { count: 500, interval: 0.004 });
    expect(result.duplicates).toBe(0);
    // 1 % of the datagrams each way are spoilt.
    expect(result.received).toBeGreaterThanOrEqual(470);
    await relay.stop('SIGTERM');
    const counts = JSON.parse(relay.stdout.replace('ready\n', '')) as Record<string, number>;
    expect(counts['delayed']).toBeGreaterThan(150);
    expect(counts['duplicated']).toBeGreaterThan(50);
    expect(counts['corrupted']).toBeGreaterThan(2);
  }, 90_000);
});

async function startRelay(host: Host, options: Readonly<Record<string, number>>): Promise<Running> {
  const relay = host.start('node', [RELAY, String(RELAY_PORT), '127.0.0.1', '51002', JSON.stringify(options)]);
  await until('the relay to listen', () => relay.stdout.includes('ready'));
  return relay;
}

/** Ends the pings that still run in a host with their summary. */
async function stopPings(host: Host): Promise<void> {
  const found = await host.run('ip', ['netns', 'pids', host.name]);
  for (const pid of found.stdout.split('\n').filter((line) => line !== '')) {
    const name = await host.run('cat', [`/proc/${pid}/comm`]);
    if (name.stdout.trim() === 'ping') process.kill(Number(pid), 'SIGINT');
  }
}
