/**
 * Four minutes of pings through each pair of implementations, all pairs at once: the sessions are renewed by time once or
 * twice meanwhile, in both roles, and no packet may be lost.
 */
import { describe, expect, it } from 'vitest';
import { Lab, missing } from '../support/lab.ts';
import type { Implementation } from '../support/wireguard.ts';
import { INNER, ping, wireguardPair } from '../support/wireguard.ts';

const reason = missing('wireguard-go', 'wg', 'ping');
const COUNT = 4 * 60 * 50;
const PAIRS: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['wireguard-go', 'sealane'],
  ['sealane', 'sealane'],
];

describe.skipIf(reason !== undefined)(`rekey by time (${reason ?? 'all programs are here'})`, () => {
  it.concurrent.for(PAIRS)(
    '%s begins, %s answers: no packet is lost in four minutes',
    { timeout: 420_000 },
    async ([begins, answers]) => {
      await using lab = await Lab.open();
      const { a, b } = await wireguardPair(lab, [begins, answers]);
      expect((await ping(a.host, INNER.b4, { count: 1 })).received).toBe(1);
      const first = await a.latestHandshake();
      const result = await ping(a.host, INNER.b4, { count: COUNT, interval: 0.02, size: 1000, timeout: 400_000 });
      expect(result).toEqual({ sent: COUNT, received: COUNT, duplicates: 0 });
      const last = await a.latestHandshake();
      expect(last - first).toBeGreaterThanOrEqual(115);
      expect(Math.abs((await b.latestHandshake()) - last)).toBeLessThanOrEqual(2);
    },
  );
});
