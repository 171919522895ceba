/** TCP through tunnels: two stacks, two devices and a bad link under one clock, while sessions are renewed and a process restarts. */
import { describe } from 'vitest';
import { Drain, Source } from '../../../packages/netstack/test/support/sim.ts';
import { addressOf, StackHost } from '../stack-host.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { peerOf, World } from '../world.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const MTU = 1_420;
const BYTES = isLongRun ? 8_000_000 : 1_000_000;

describe('streams', () => {
  simulate({
    goal: 'TCP',
    title: `${BYTES} bytes each way, up to 5 % loss, duplicates, reordering, renewals and a restart: each byte once, in order`,
    seeds: 10,
    worst: 'seconds',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('streams');
      world.network.link = {
        delay: random.between(20, 80),
        jitter: random.between(0, 20),
        loss: random.between(0.01, 0.05),
        duplicate: random.between(0, 0.05),
        corrupt: random.between(0, 0.01),
        reorder: random.between(0, 0.05),
        reorderDelay: random.between(1, 100),
      };
      world.log.keep = () => false;
      const both = { rekeyInterval: 10 * SECOND };
      const [a, b] = world.pair(both);
      const [client, server] = [new StackHost(world, a, MTU), new StackHost(world, b, MTU)];
      const drains = [new Drain(seed), new Drain(seed + 1)] as const;
      server.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drains[0]));
      client.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drains[1]));
      client.stack.connect({ address: addressOf(b), port: 80 }, new Source(seed, BYTES));
      client.turn();
      server.stack.connect({ address: addressOf(a), port: 80 }, new Source(seed + 1, BYTES));
      server.turn();
      // One side forgets its sessions in the middle of it.
      let restarts = 0;
      world.clock.after(random.between(0.5, 2) * SECOND, () => {
        if (drains.some(({ received }) => received < BYTES)) restarts++;
        const [node, other] = random.chance(0.5) ? [a, b] : [b, a];
        node.kill();
        node.restart(node.device.timestamp);
        node.configure({ peers: [peerOf(other, both)] });
      });
      const renew = (): void => {
        (random.chance(0.5) ? a : b).rekey();
        world.clock.after(random.between(0.3, 3) * SECOND, renew);
      };
      world.clock.after(0.5 * SECOND, renew);
      const done = world.runUntil(() => drains.every(({ closed }) => closed), HOUR);
      for (const [i, drain] of drains.entries()) {
        const { received, wrongAt, error } = drain;
        require(wrongAt < 0, `stream ${i}: byte ${wrongAt} is wrong`);
        require(error === undefined, `stream ${i} ended with ${error} after ${received} bytes`);
        require(received === BYTES, `stream ${i}: ${received} bytes of ${BYTES}`);
      }
      require(done, 'the streams did not end');
      const sessions = a.eventsOf('session').length;
      require(restarts === 1 && sessions >= 4, `${restarts} restarts and ${sessions} sessions while it lasted`);
      return { seconds: world.clock.now / SECOND, sessions };
    },
  });
});
