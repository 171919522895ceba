/** S10 beside wireguard-go: a server stands still for ten seconds (SIGSTOP) under junk, and then has to be back at its rate. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { flood, INNER, PORT, SOURCES } from './flood-ends.mjs';
import { rssOf, within } from './namespaces.mjs';

/** @typedef {{ usual: number, back: number, grown: number, alive: boolean }} Stopped `usual` in Mbit/s, `back` in seconds, `grown` in MiB */

const STOPPED = 10_000;
/** How long the rate is looked at before, and for how long at most after. */
const [BEFORE, AFTER] = [5_000, 15_000];
/** UDP, because TCP has timers of its own that go on for as long again; at a rate that busy machines hold, too. */
const OFFERED = '100M';
/** Reports of a tenth of a second that are taken together. */
const TOGETHER = 5;

/**
 * @param {import('./flood-ends.mjs').Ends} ends
 * @param {number} rate datagrams of junk a second
 * @returns {Promise<Stopped>}
 */
export async function measureStopped({ server, publicKey }, rate) {
  const seconds = (2_000 + BEFORE + STOPPED + AFTER) / 1_000;
  const pid = server.pid ?? 0;
  const junk = flood({ kind: 'junk', rate, seconds, port: PORT, sources: SOURCES, publicKey });
  const receiver = within('b', 'iperf3', ['-s', '-1', '-i', '0.1', '--forceflush']);
  await once(receiver.stdout, 'data');
  /** @type {{ at: number, mbits: number }[]} */
  const reports = [];
  createInterface({ input: receiver.stdout }).on('line', (line) => {
    const found = /sec .* ([0-9.]+) ([KMG]?)bits\/sec/.exec(line);
    const unit = { '': 1e-6, K: 1e-3, M: 1, G: 1e3 }[found?.[2] ?? ''] ?? NaN;
    if (found !== null) reports.push({ at: performance.now(), mbits: Number(found[1]) * unit });
  });
  const lasting = ['-u', '-b', OFFERED, '-l', '1300', '-t', String(seconds - 1)];
  const sender = within('a', 'iperf3', ['-c', INNER.server, ...lasting]);
  try {
    await sleep(BEFORE);
    const usual = median(reports.slice(-30).map(({ mbits }) => mbits));
    const memory = rssOf(pid);
    process.kill(pid, 'SIGSTOP');
    await sleep(STOPPED);
    process.kill(pid, 'SIGCONT');
    const resumed = performance.now();
    let highest = 0;
    let back = Infinity;
    while (back === Infinity && performance.now() - resumed < AFTER) {
      await sleep(50);
      highest = Math.max(highest, rssOf(pid));
      const since = reports.filter(({ at }) => at > resumed);
      for (let i = TOGETHER; i <= since.length && back === Infinity; i++) {
        const rates = since.slice(i - TOGETHER, i);
        const isGood = rates.map(({ mbits }) => mbits >= 0.9 * usual);
        // Not a burst of what lay in the sockets: most of the half second from there on is good.
        if (isGood[0] && isGood.filter(Boolean).length > TOGETHER / 2) back = ((rates[0]?.at ?? NaN) - resumed) / 1_000;
      }
    }
    return {
      usual,
      back,
      grown: Math.max(0, highest - memory),
      alive: server.exitCode === null && server.signalCode === null,
    };
  } finally {
    for (const child of [sender, receiver, junk.child]) child.kill('SIGKILL');
    await junk.done.catch(() => undefined);
  }
}

/** @param {number[]} list */
const median = (list) => list.toSorted((x, y) => x - y)[list.length >> 1] ?? NaN;
