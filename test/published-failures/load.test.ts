/** Published failures of other implementations under load and around cookies, each named by where it happened. */
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '@sealane/protocol';
import { junkInitiation, memoised } from '../../packages/protocol/test/support/lab.ts';
import * as paper from '../../packages/protocol/test/support/paper.ts';
import { kindOf } from '../sim/log.ts';
import type { Node } from '../sim/node.ts';
import { generator } from '../sim/random.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { World, outer, statusOf } from '../sim/world.ts';

const SECOND = 1_000;
const random = generator(45);
const quick = memoised(nobleCrypto);

function flood(node: Node, source: ReturnType<typeof outer>, count = 150): void {
  for (let i = 0; i < count; i++) node.accept(junkInitiation(node.publicKey, random), source);
}

describe('load', () => {
  it('tailscale-rs #341: the cookie reply had a wrong type byte', () => {
    const world = new World({ seed: 1, crypto: quick });
    const b = world.add('b');
    flood(b, outer(60));
    const asked = junkInitiation(b.publicKey, random);
    b.accept(asked, outer(61));
    world.run(0);
    const reply = world.log.of({ from: 'b' }).at(-1)!.bytes;
    expect([...reply.subarray(0, 4)]).toEqual([3, 0, 0, 0]);
    expect(kindOf(reply)).toBe('cookie');
    expect(reply.subarray(4, 8)).toEqual(asked.subarray(4, 8));
    expect(paper.openCookieReply(reply, b.publicKey, asked.subarray(116, 132))).toHaveLength(16);
  });

  it('gotatun 0.4.1: one limiter for all handshakes let a single source shut out the others', () => {
    const world = new World({ seed: 2, crypto: quick, link: { delay: 5 } });
    const [a, b] = world.pair();
    const attacker = outer(60);
    let stopAt = Infinity;
    // The attacker proves its address, so that only its own rate limits it.
    flood(b, attacker);
    const asked = junkInitiation(b.publicKey, random);
    b.accept(asked, attacker);
    world.run(0);
    const reply = world.log.of({ from: 'b', kind: 'cookie' }).at(-1)!.bytes;
    const cookie = paper.openCookieReply(reply, b.publicKey, asked.subarray(116, 132))!;
    const proved = junkInitiation(b.publicKey, random, cookie);
    const keepOn = (): void => {
      // Enough to wait at once: load never ends, and whatever the attacker is granted it takes.
      for (let i = 0; i < 150; i++) b.accept(proved, attacker);
      if (world.clock.now < stopAt) world.clock.after(5, keepOn);
    };
    keepOn();
    // Again and again, and far from the 5 s after which an initiation is repeated.
    for (let i = 0; i < 6; i++) {
      a.rekey();
      expect(world.runUntil(() => statusOf(a, b).sessions > i, 100)).toBe(true);
      world.run(60);
      expect(b.device.status(b.now).underLoad).toBe(true);
    }
    expect(b.device.status(b.now).drops['rate-limited']).toBeGreaterThan(5_000);
    expect(a.eventsOf('cookie-received')).toHaveLength(1);
    stopAt = world.clock.now;
    world.run(1.1 * SECOND);
    // A second after the flood nobody is asked for proof any more.
    const before = world.log.count('b', 'cookie');
    a.rekey();
    world.run(SECOND);
    expect(world.log.count('b', 'cookie')).toBe(before);
    expect(statusOf(b, a).sessions).toBe(7);
  });

  it('gotatun 0.6.0: the source port was not in the cookie', () => {
    const world = new World({ seed: 3, crypto: quick });
    const b = world.add('b');
    flood(b, outer(60));
    const asked = junkInitiation(b.publicKey, random);
    b.accept(asked, outer(61, 1_000));
    world.run(0);
    const reply = world.log.of({ from: 'b' }).at(-1)!.bytes;
    const cookie = paper.openCookieReply(reply, b.publicKey, asked.subarray(116, 132))!;
    const before = world.log.count('b', 'cookie');
    b.accept(junkInitiation(b.publicKey, random, cookie), outer(61, 1_000));
    world.run(0);
    expect(world.log.count('b', 'cookie')).toBe(before);
    b.accept(junkInitiation(b.publicKey, random, cookie), outer(61, 1_001));
    world.run(0);
    expect(world.log.count('b', 'cookie')).toBe(before + 1);
  });

  it('gotatun 0.1.2: every handshake after the hundredth got a cookie (1,000 at rest)', () => {
    const world = new World({ seed: 4, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.log.keep = () => false;
    for (let i = 0; i < 1_000; i++) {
      a.rekey();
      world.run(50);
    }
    expect(statusOf(b, a).sessions).toBe(1_000);
    expect(world.log.count('b', 'cookie')).toBe(0);
  });

  it('boringtun #39: cookie replies were neither sent nor, when they answered a response, understood', () => {
    const world = new World({ seed: 5, crypto: quick, link: { delay: 10 } });
    const [a, b] = world.pair();
    // A flood against the initiator: it asks the responder for proof, which gives it with its next response.
    let flooded = false;
    world.network.onSend = ({ kind, from }) => {
      if (kind !== 'response' || from !== 'b' || flooded) return;
      flooded = true;
      world.clock.after(5, () => flood(a, outer(60)));
    };
    world.ping(a, b);
    world.run(100);
    expect(world.log.of({ from: 'a', to: 'b', kind: 'cookie' })).toHaveLength(1);
    expect(b.eventsOf('cookie-received')).toHaveLength(1);
    expect(world.runUntil(() => b.delivered.length > 0, 6 * SECOND)).toBe(true);
  });
});
