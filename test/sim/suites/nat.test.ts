/** A client behind address translation that forgets what is silent, and now and then gives it another port. */
import { describe } from 'vitest';
import { ipPacket, packetId } from '../packets.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { outer, peerOf, statusOf, World } from '../world.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOURS = isLongRun ? 24 : 2;
const KEEPALIVE = 25;
/** Only what goes out keeps a port: after 25 s, and 10 s later when a packet came in shortly before that. */
const NAT = { address: outer(200).address, timeoutMs: 40 * SECOND };

describe('address translation', () => {
  simulate({
    goal: 'NAT',
    title: `${HOURS} h behind a NAT of 40 s, a keepalive of 25 s, another port every few minutes: dark until the next packet out, no longer`,
    seeds: 20,
    worst: 'darkSeconds',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('nat');
      const delay = random.between(1, 200);
      world.network.link = { ...world.network.link, delay };
      world.log.keep = () => false;
      const [client, idle, server] = [world.add('client'), world.add('idle'), world.add('server')];
      server.configure({
        peers: [client, idle].map((node) => {
          const { endpoint: _, ...peer } = peerOf(node);
          return peer;
        }),
      });
      client.configure({ peers: [peerOf(server, { persistentKeepalive: KEEPALIVE })] });
      idle.configure({ peers: [peerOf(server)] });
      world.network.nat('client', NAT.address, NAT.timeoutMs);
      world.network.nat('idle', outer(201).address, NAT.timeoutMs);

      // Between a change of port and the first packet that the server hears from there, it cannot know.
      let [rebinds, darkMs, darkSince] = [0, 0, Infinity];
      const dark: [from: number, to: number][] = [];
      world.network.onSend = ({ from, at }) => {
        if (from !== 'client' || darkSince === Infinity) return;
        // A packet may have waited for a handshake, a way there and one back, before its own way.
        dark.push([darkSince - 3 * delay, at + delay]);
        darkMs = Math.max(darkMs, at - darkSince);
        darkSince = Infinity;
      };
      const rebind = (): void => {
        world.network.rebind('client');
        rebinds++;
        if (darkSince === Infinity) darkSince = world.clock.now;
        world.clock.after(random.between(1, 8) * MINUTE, rebind);
      };
      world.clock.after(random.between(1, 8) * MINUTE, rebind);

      const answered = new Set<number>();
      client.onPacket = (packet) => answered.add(packetId(packet)) !== undefined;
      const asked = new Map<number, number>();
      world.ping(client, server);
      world.ping(idle, server);
      world.run(SECOND);
      for (let id = 1; world.clock.now < HOURS * 60 * MINUTE; id++) {
        // The key of the end that began the handshake lives for a round trip longer than the other's: what is sent last comes too late.
        const left = statusOf(server, client).session?.expiresInMs ?? Infinity;
        if (left > 3 * delay) asked.set(id, world.clock.now);
        server.send(ipPacket(server.inner, client.inner, id));
        if (random.chance(0.1)) world.ping(client, server);
        // Sometimes nobody says anything for minutes.
        world.run(random.chance(0.05) ? random.between(1, 5) * MINUTE : random.between(0, 10) * SECOND);
      }
      world.run(MINUTE);
      let lost = 0;
      for (const [id, at] of asked) {
        if (answered.has(id)) continue;
        lost++;
        const known = dark.some(([from, to]) => at >= from && at <= to);
        require(known, `packet ${id}, sent at ${at} ms, was lost although the server knew the port`);
      }
      require(darkMs <= (KEEPALIVE + 1) * SECOND, `nothing went out for ${darkMs} ms after a change of port`);
      require(rebinds > 5 && lost > 0, `${rebinds} changes of port, ${lost} lost: nothing was tested`);
      require(server.eventsOf('roamed').length >= rebinds / 2, 'the server did not follow');
      require(statusOf(client, server).sessions >= HOURS * 25, 'sessions were not renewed');
      // Who sends no keepalives is out of reach.
      const before = idle.delivered.length;
      world.ping(server, idle);
      world.run(MINUTE);
      require(idle.delivered.length === before, 'the translation forgot nothing');
      return { darkSeconds: darkMs / SECOND, rebinds, lost };
    },
  });
});
