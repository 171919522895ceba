/**
 * Whatever arrives, `open` and `tick` throw nothing, give every datagram a verdict, hand on only whole packets of their
 * sender, change nothing for what is not authentic, answer nobody without a valid mac1 and nobody with more than 0.70 of
 * what he sent, and keep no memory.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HEADROOM, VERDICT, dropReason } from '@sealane/protocol';
import type { Crypto, Endpoint } from '@sealane/protocol';
import { selectCrypto } from '@sealane/tunnel';
import { decodeCookieReply } from '../../packages/protocol/src/messages.ts';
import { ipPacket } from '../sim/packets.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { BATCH, DatagramTarget, INNER_A, INNER_B, LARGEST, SLOT, UNIX } from './datagram-target.ts';
import { heapUsed } from './heap.ts';
import { mutate } from './mutate.ts';

/** `npm run fuzz` asks for more. */
const DATAGRAMS = Number(process.env['SEALANE_FUZZ'] ?? 500_000);
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);
/** Load begins at 128 that wait; from one source no more than 512 may wait. */
const CROWD = 256;
const FLOOD = 704;
/** Reasons for packets that we are given to send. */
const OUTBOUND = new Set(['not-ip', 'no-route', 'no-endpoint', 'staging-overflow', 'device-down']);

interface Shot {
  readonly bytes: Uint8Array;
  readonly source: Endpoint;
}

/** What strangers could have sent: some at a time, now and then so many that it is load, or so many of one that he has no room. */
function volley(target: DatagramTarget, round: number): Shot[] {
  const { random, regulars } = target;
  const anyone = (): Endpoint => ({
    address: random.bytes(random.chance(0.5) ? 4 : 16),
    port: 1 + random.below(65_535),
    scopeId: 0,
  });
  const shots = Array.from({ length: BATCH }, () => ({ bytes: target.hostile(), source: anyone() }));
  if (round % 16 === 3) {
    for (const device of [target.stranger, target.other]) {
      const bytes = target.initiationOf(device);
      if (bytes !== undefined) shots.push({ bytes, source: anyone() });
    }
  }
  if (round % 8 === 5 || round % 64 === 0) {
    const flooder = random.bytes(4);
    while (shots.length < (round % 64 === 0 ? FLOOD : CROWD)) {
      const regular = regulars[random.below(regulars.length)]!;
      const source =
        round % 64 === 0 ? { ...anyone(), address: flooder } : random.chance(0.4) ? { ...regular.endpoint } : anyone();
      shots.push({ bytes: random.chance(0.9) ? target.macked(regular.macs) : target.hostile(), source });
    }
  }
  return shots;
}

/** Fires it and judges what went back; returns how many were answered. */
function fire(target: DatagramTarget, shots: readonly Shot[]): number {
  const { batch } = target;
  for (let from = 0; from < shots.length; from += BATCH) {
    batch.clear();
    shots.slice(from, from + BATCH).forEach(({ bytes, source }, i) => {
      batch.buffer.set(bytes, i * SLOT);
      batch.push(i * SLOT, bytes.length, source);
    });
    target.openBatch();
  }
  const unanswered = new Map(shots.map(({ bytes, source }) => [source, bytes]));
  const answers = target.settle();
  for (const { endpoint, bytes } of answers) {
    const asked = unanswered.get(endpoint);
    if (asked === undefined) throw new Error(`${bytes.length} bytes went to who had sent nothing, or once more`);
    if (!target.hasMac1(asked)) throw new Error('an answer to who does not know our public key');
    if (bytes.length > 0.7 * asked.length) throw new Error(`${bytes.length} bytes in answer to ${asked.length}`);
    unanswered.delete(endpoint);
    const regular = target.regulars.find((known) => known.endpoint.address.join() === endpoint.address.join());
    const reply = bytes[0] === 3 ? decodeCookieReply(bytes) : undefined;
    if (reply !== undefined) regular?.macs.consumeReply(reply, target.now);
  }
  return answers.length;
}

function attack(
  crypto: Crypto,
  count: number,
  seed: number,
): { readonly target: DatagramTarget; readonly answered: number } {
  const target = new DatagramTarget(crypto, seed);
  const { random, batch } = target;
  let [heap, answered, fired] = [0, 0, 0];
  for (let round = 0; fired < count; round++) {
    // Half of them a stranger could have sent ...
    const before = target.state();
    const shots = volley(target, round);
    answered += fire(target, shots);
    fired += 2 * shots.length;
    if (round % 64 === 0) target.deliver(random.bytes(random.below(LARGEST + 1)), target.endpointA);
    if (target.state() !== before) throw new Error(`seed ${seed}, round ${round}: a stranger changed the state`);

    // ... and half only the peer, who may be just as malicious: in a hurry, or after the end of his session.
    if (round % 50 === 20) {
      for (let i = 0; i < 2; i++) {
        target.now += 9;
        const initiation = target.initiationOf(target.a);
        if (initiation !== undefined) target.deliver(initiation, target.endpointA);
      }
    }
    if (round % 500 === 30) target.now += 181_000;
    for (let left = shots.length; left > 0; left -= BATCH) {
      batch.clear();
      for (let i = 0; i < BATCH; i++) batch.push(i * SLOT, target.authentic(batch.buffer, i * SLOT), target.endpointA);
      target.openBatch();
      target.settle();
    }
    target.now += random.below(100);
    // What is due by time alone must not look like an answer.
    target.settle();
    if (target.b.status(target.now).peers[0]!.session === undefined || round % 500 === 499) target.connect();
    if (heap === 0 && fired > count / 4) heap = heapUsed();
  }
  const grown = heapUsed() / heap;
  if (grown > 1.05) throw new Error(`the heap grew by ${((grown - 1) * 100).toFixed(1)} %`);
  return { target, answered };
}

describe('datagrams', () => {
  const timeout = 120_000 + DATAGRAMS;

  it.each([
    ['cryptography aside', () => toyCrypto, SEED],
    ['with the cryptography of this computer', selectCrypto, SEED + 1],
  ] as const)(
    'of all kinds change nothing and are not answered unless they should, %s',
    { timeout },
    (_, crypto, seed) => {
      const { target, answered } = attack(crypto(), DATAGRAMS / 2, seed);
      const { drops } = target.b.status(target.now);
      // Everything was reached.
      for (const [reason, count] of Object.entries(drops))
        if (!OUTBOUND.has(reason)) expect(count, reason).toBeGreaterThan(0);
      expect(target.delivered).toBeGreaterThan(1_000);
      expect(answered).toBeGreaterThan(DATAGRAMS / 500);
    },
  );

  it('of the corpus: each case once was, or could have been, a crash', () => {
    const file = new URL('corpus/datagrams.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as {
      note: string;
      hex: string;
      port?: number;
      inner?: boolean;
    }[];
    expect(cases.length).toBeGreaterThan(10);
    const target = new DatagramTarget(toyCrypto, SEED);
    for (const { note, hex, port = 1, inner = false } of cases) {
      const before = target.state();
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      if (!inner) {
        expect(target.deliver(bytes, { address: Uint8Array.of(192, 0, 2, 9), port, scopeId: 0 }), note).toEqual([]);
        expect(target.state(), note).toBe(before);
        continue;
      }
      const { batch } = target;
      batch.clear();
      batch.buffer.set(bytes, HEADROOM);
      batch.push(HEADROOM, bytes.length);
      target.b.seal(batch, target.now);
      expect(dropReason(batch.verdicts[0]!), note).toBeDefined();
      expect(target.state(), note).toBe(before);
      // And from the peer, in his session, where an empty one is a keepalive.
      batch.clear();
      batch.push(0, target.sealAsPeer(bytes, batch.buffer, 0), target.endpointA);
      target.openBatch();
      expect(dropReason(batch.verdicts[0]!), note).toBe(bytes.length === 0 ? undefined : 'bad-inner-packet');
      expect(target.settle(), note).toEqual([]);
    }
    expect(target.delivered).toBe(0);
    target.batch.clear();
    const honest = ipPacket(INNER_A, INNER_B, 1, 64);
    target.batch.push(0, target.sealAsPeer(honest, target.batch.buffer, 0), target.endpointA);
    target.openBatch();
    expect(target.delivered).toBe(1);
  });
});

describe('packets to be sent', () => {
  it('of any content are sealed, kept for later or refused, never thrown at', () => {
    const target = new DatagramTarget(toyCrypto, SEED + 2);
    const { random, a, batch } = target;
    const verdicts = new Set<number>();
    for (let round = 0; round < 1_500; round++) {
      batch.clear();
      for (let i = 0; i < BATCH; i++) {
        const packet = ipPacket(INNER_A, random.chance(0.5) ? INNER_B : INNER_A, i, 20 + random.below(100));
        const bytes = random.chance(0.5) ? mutate(random, packet, [packet]) : random.bytes(random.below(200));
        batch.buffer.set(bytes, i * SLOT + HEADROOM);
        batch.push(i * SLOT + HEADROOM, bytes.length);
      }
      a.seal(batch, target.now);
      for (let i = 0; i < BATCH; i++) {
        verdicts.add(batch.verdicts[i]!);
        if (batch.offsets[i]! + batch.lengths[i]! > (i + 1) * SLOT)
          throw new Error('a datagram reaches out of its slot');
      }
      a.tick(target.now, UNIX + target.now);
      target.now += random.below(3_000);
    }
    expect(verdicts.has(VERDICT.send)).toBe(true);
    expect([...verdicts].map((verdict) => dropReason(verdict))).toContain('not-ip');
  });
});
