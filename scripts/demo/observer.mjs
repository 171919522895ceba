import { setTimeout as sleep } from 'node:timers/promises';
import { readStatus } from '@sealane/tunnel';
import { sparkline } from '../../packages/client/dist/output/rates.js';
import { megabits, mebibytes } from './display.mjs';

const INTERVAL_MS = 200;
const HISTORY = 24;

/** Watches a running server through its control socket and draws what it sees, until `stop`. */
export function observe(path, display) {
  const seen = { sessions: 0, rekeys: 0 };
  const rates = [];
  let running = true;
  const loop = (async () => {
    let before;
    while (running) {
      const report = await readStatus(path).catch(() => undefined);
      const peer = report?.peers[0];
      const now = performance.now();
      if (peer !== undefined) {
        seen.sessions = peer.sessions;
        seen.rekeys = Math.max(0, peer.sessions - 1);
        const bytes = peer.rxBytes + peer.txBytes;
        if (before !== undefined && running) {
          rates.push(Math.max(0, bytes - before.bytes));
          if (rates.length > HISTORY) rates.shift();
          const rate = megabits(bytes - before.bytes, now - before.now);
          display.live(
            `${sparkline(rates)} ${rate} both ways, ${mebibytes(bytes)} encrypted, ${plural(peer.sessions, 'session')}, ${plural(seen.rekeys, 'rekey')}`,
          );
        }
        before = { bytes, now };
      }
      await sleep(INTERVAL_MS);
    }
  })();
  return {
    async stop() {
      running = false;
      await loop;
    },
  };
}

export function plural(count, word) {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
