/** Sessions that several threads send on: counters, limits and the life of keys. */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../src/noble.ts';
import { SharedKeypair, SharedSession } from '../src/shared-session.ts';
import { keypairInput } from './support/keypair-input.ts';

const REJECT = 2n ** 64n - 2n ** 13n - 1n;
const aead = nobleCrypto.aead('chacha20poly1305');
const keysOf = (fill: number): { send: Uint8Array; receive: Uint8Array } => ({
  send: new Uint8Array(32).fill(fill),
  receive: new Uint8Array(32).fill(fill + 1),
});

function keypair(session: SharedSession, onEnd: () => void = () => {}): SharedKeypair {
  const keys = keysOf(1);
  return new SharedKeypair({
    ...keypairInput({ sealer: aead.sealer(keys.send), opener: aead.opener(keys.receive) }),
    session,
    onEnd,
  });
}

const counterOf = (pair: SharedKeypair): bigint => (BigInt(pair.counterHigh) << 32n) | BigInt(pair.counterLow);

function startAt(session: SharedSession, counter: bigint): void {
  new BigUint64Array(session.buffer, 0, 1)[0] = counter;
}

/** What several threads got that began at the same moment. */
async function hammer(session: SharedSession, threads: number, packets: number): Promise<readonly bigint[]> {
  const start = new Int32Array(new SharedArrayBuffer(8));
  const module = new URL('support/counter-worker.mjs', import.meta.url);
  const workers = Array.from(
    { length: threads },
    (_, seed) => new Worker(module, { workerData: { buffer: session.buffer, start, packets, seed } }),
  );
  const results = workers.map(
    (worker) =>
      new Promise<BigUint64Array>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  for (let ready = 0; ready < threads; ready = Atomics.load(start, 0)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  Atomics.store(start, 1, 1);
  Atomics.notify(start, 1);
  return (await Promise.all(results)).flatMap((counters) => [...counters]);
}

describe('counters', () => {
  it.each([
    ['from the beginning', 0n],
    ['across 2^32', 2n ** 32n - 100_000n],
    ['across 2^53', 2n ** 53n - 100_000n],
  ])('%s: four threads never get the same one', async (_, first) => {
    const session = SharedSession.create(keysOf(1), 0);
    startAt(session, first);
    const got = await hammer(session, 4, 60_000);
    expect(got.length).toBe(240_000);
    expect(new Set(got).size).toBe(got.length);
    expect(got.every((counter) => counter >= first)).toBe(true);
  });

  it('end at Reject-After-Messages for all threads, and are not one too many', async () => {
    const session = SharedSession.create(keysOf(1), 0);
    startAt(session, REJECT - 50_000n);
    const got = await hammer(session, 4, 60_000);
    expect(new Set(got).size).toBe(got.length);
    expect(got.length).toBeGreaterThan(49_000);
    expect(got.length).toBeLessThanOrEqual(50_000);
    expect(got.every((counter) => counter < REJECT)).toBe(true);
    expect(session.reserve(1)).toBeUndefined();
    expect(keypair(session).claim(1, 1)).toBe(false);
  });

  it('of a range are given up when the moment is over', () => {
    const session = SharedSession.create(keysOf(1), 0);
    const pair = keypair(session);
    expect(pair.claim(10, 5)).toBe(true);
    pair.advanceCounter();
    expect(pair.claim(10, 4)).toBe(true);
    expect(counterOf(pair)).toBe(1n);
    expect(pair.claim(11, 1)).toBe(true);
    expect(counterOf(pair)).toBe(5n);
    // The range is used up: the same moment gets another one.
    pair.advanceCounter();
    expect(() => pair.advanceCounter()).toThrow(/without a claimed counter/);
    expect(pair.claim(11, 1)).toBe(true);
    expect(counterOf(pair)).toBe(6n);
  });

  it('ask for renewal from 2^60 on, whichever lane used them', () => {
    const session = SharedSession.create(keysOf(1), 0);
    const pair = keypair(session);
    startAt(session, 2n ** 60n - 1n);
    expect(pair.needsRenewal(0)).toBe(false);
    session.reserve(1);
    expect(pair.needsRenewal(0)).toBe(true);
  });

  it('are refused to all when sending is stopped', () => {
    const session = SharedSession.create(keysOf(1), 0);
    const [one, other] = [keypair(session), keypair(session)];
    expect(other.claim(0, 10)).toBe(true);
    one.stopSending();
    expect(one.claim(0, 1)).toBe(false);
    expect(other.claim(1, 1)).toBe(false);
    expect(other.canReceive(1)).toBe(true);
  });
});

describe('the last counters', () => {
  it('are handed out to the last one', () => {
    const session = SharedSession.create(keysOf(1), 0);
    startAt(session, REJECT - 3n);
    expect([session.reserve(2), session.reserve(1), session.reserve(1)]).toEqual([REJECT - 3n, REJECT - 1n, undefined]);
  });

  it.each(['used up', 'stopped'])('do not move on once they are %s, however often a lane asks', (how) => {
    const session = SharedSession.create(keysOf(1), 0);
    const pair = keypair(session);
    if (how === 'stopped') pair.stopSending();
    else startAt(session, REJECT);
    for (let now = 0; now < 10_000; now++) expect(pair.claim(now, 64)).toBe(false);
    expect(new BigUint64Array(session.buffer, 0, 1)[0]).toBeLessThanOrEqual(REJECT + 64n);
    expect(pair.canSend(0)).toBe(false);
  });
});

describe('keys', () => {
  const isErased = (session: SharedSession): boolean =>
    new Uint8Array(session.buffer).every((byte) => byte !== 7 && byte !== 8);

  it('are erased by the last lane that takes them', () => {
    const session = SharedSession.create(keysOf(7), 2);
    expect(session.takeKeys()).toEqual(keysOf(7));
    expect(isErased(session)).toBe(false);
    expect(session.takeKeys()).toEqual(keysOf(7));
    expect(isErased(session)).toBe(true);
  });

  it('are erased when the session ends, and given to nobody any more', () => {
    const session = SharedSession.create(keysOf(7), 3);
    session.takeKeys();
    session.end();
    expect(isErased(session)).toBe(true);
    expect(session.takeKeys()).toBeUndefined();
  });

  it('serve no lane after the session has ended on another', () => {
    const session = SharedSession.create(keysOf(1), 0);
    const ended: string[] = [];
    const other = keypair(session);
    const one = keypair(session, () => ended.push('one'));
    expect(other.claim(0, 10) && other.canReceive(0)).toBe(true);
    one.wipe();
    one.wipe();
    expect(other.claim(0, 9) || other.canSend(0) || other.canReceive(0)).toBe(false);
    expect(ended).toEqual(['one']);
  });
});
