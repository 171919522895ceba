/** A device and its replicas as several lanes: whatever they carry, and in which order they hear of what, they are one device. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { generator } from '../../../test/sim/random.ts';
import { ipPacket, packetId } from '../../../test/sim/packets.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { HEADROOM, PacketBatch } from '../src/batch.ts';
import { Device } from '../src/device.ts';
import { VERDICT } from '../src/drops.ts';
import type { Endpoint } from '../src/endpoint.ts';
import { laneOf, type LaneChange } from '../src/lane-model.ts';
import { LaneReplica } from '../src/lane-replica.ts';
import type { DeviceEvent } from '../src/model.ts';

const LANES = 3;
const DATA = 4;

interface Datagram {
  readonly bytes: Uint8Array;
  readonly from: Endpoint;
  readonly to: Endpoint | undefined;
}

/** One end: a device, two replicas, and changes on their way to each. */
class End {
  readonly device: Device;
  readonly publicKey: Uint8Array;
  readonly address: Uint8Array;
  readonly delivered: number[] = [];
  readonly events: DeviceEvent[] = [];
  readonly replicas: readonly LaneReplica[];
  readonly #privateKey: Uint8Array;
  readonly #news: LaneChange[][] = [];
  readonly #batch = new PacketBatch(new Uint8Array(2_048), 1);
  endpoint: Endpoint;
  /** Datagrams to the other end. */
  out: Datagram[] = [];
  now = 0;
  sentByRemoved = 0;

  /** `life` tells ends of the same host and key apart. */
  constructor(host: number, life = 0) {
    const random = generator(100 * host + life);
    this.device = new Device({ crypto: toyCrypto, random: (length) => random.bytes(length), lanes: LANES });
    this.#privateKey = generator(host).bytes(32);
    this.publicKey = toyCrypto.publicKey(
      this.#privateKey.map((byte, i) => (i === 0 ? byte & 248 : i === 31 ? (byte & 127) | 64 : byte)),
    );
    this.address = Uint8Array.of(10, 0, 0, host);
    this.endpoint = { address: Uint8Array.of(192, 0, 2, host), port: 1_000, scopeId: 0 };
    this.replicas = Array.from({ length: LANES - 1 }, (_, i) => {
      this.#news.push([]);
      return new LaneReplica({ crypto: toyCrypto, lane: i + 1, lanes: LANES, refresh: () => this.hear(i + 1) });
    });
  }

  meet(other: End): void {
    const peers = [
      {
        publicKey: other.publicKey,
        endpoint: other.endpoint,
        allowedIps: [{ address: other.address, length: 32 }],
      },
    ];
    this.device.configure({ privateKey: this.#privateKey, mtu: 1_420, peers }, this.now);
    this.publish();
  }

  /** What the device says is under way to the replicas from now on. */
  publish(): void {
    const changes = this.device.laneChanges();
    for (const news of this.#news) news.push(...changes);
  }

  /** The replica of a lane hears all that is under way to it. */
  hear(lane: number): void {
    this.replicas[lane - 1]!.apply(this.#news[lane - 1]!.splice(0));
  }

  hearAll(): void {
    for (let lane = 1; lane < LANES; lane++) this.hear(lane);
  }

  report(lane: number): void {
    const replica = this.replicas[lane - 1]!;
    if (replica.reportDue === Infinity) return;
    const unsent = this.device.account(replica.report(this.now), this.now);
    for (const packet of unsent) this.send(0, packet);
    this.publish();
  }

  tick(): void {
    const { datagrams, events } = this.device.tick(this.now, 1e12 + this.now);
    this.publish();
    this.events.push(...events);
    for (const { bytes, endpoint } of datagrams) this.out.push({ bytes, from: this.endpoint, to: endpoint });
  }

  tickWhileDue(): void {
    for (let i = 0; i < 20 && this.device.nextDeadline().at <= this.now; i++) this.tick();
  }

  send(lane: number, packet: Uint8Array): void {
    const batch = this.#batch;
    batch.clear();
    batch.buffer.set(packet, HEADROOM);
    batch.push(HEADROOM, packet.length);
    (lane === 0 ? this.device : this.replicas[lane - 1]!).seal(batch, this.now);
    if (batch.verdicts[0] !== VERDICT.send) return;
    const offset = batch.offsets[0]!;
    const bytes = batch.buffer.slice(offset, offset + batch.lengths[0]!);
    this.out.push({ bytes, from: this.endpoint, to: batch.peers[0]!.endpoint });
  }

  /** As the steering does: data to the lane of its receiver index, the rest to lane 0; or, by mistake, to `wrongly`. */
  receive(datagram: Datagram, wrongly?: number): void {
    const { bytes, from } = datagram;
    const owner = bytes[0] === DATA ? laneOf(bytes[4]!, LANES) : 0;
    const lane = wrongly ?? owner;
    const batch = this.#batch;
    batch.clear();
    batch.buffer.set(bytes);
    batch.push(0, bytes.length, from);
    (lane === 0 ? this.device : this.replicas[lane - 1]!).open(batch, this.now);
    const verdict = batch.verdicts[0]!;
    if (verdict === VERDICT.elsewhere) {
      if (lane === owner) throw new Error('the owner of a session sent its datagram away');
      this.receive(datagram);
      return;
    }
    const offset = batch.offsets[0]!;
    if (verdict === VERDICT.deliver)
      this.delivered.push(packetId(batch.buffer.slice(offset, offset + batch.lengths[0]!)));
    if (lane === 0) this.publish();
  }
}

const operation = fc.oneof(
  { weight: 12, arbitrary: fc.record({ type: fc.constant('send' as const), end: fc.nat(1), lane: fc.nat(LANES - 1) }) },
  {
    weight: 12,
    arbitrary: fc.record({
      type: fc.constant('deliver' as const),
      end: fc.nat(1),
      which: fc.nat(5),
      twice: fc.boolean(),
      wrongly: fc.option(fc.nat(LANES - 1), { nil: undefined }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('hear' as const),
      end: fc.nat(1),
      lane: fc.integer({ min: 1, max: LANES - 1 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('report' as const),
      end: fc.nat(1),
      lane: fc.integer({ min: 1, max: LANES - 1 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 30_000 }) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('rekey' as const), end: fc.nat(1) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('move' as const),
      end: fc.nat(1),
      port: fc.integer({ min: 1, max: 60_000 }),
    }),
  },
);

/** Lets everything come to rest: all news heard, all reports made, all datagrams delivered. */
function settle(ends: readonly [End, End]): void {
  for (let round = 0; round < 6; round++) {
    for (const [i, end] of ends.entries()) {
      end.hearAll();
      for (let lane = 1; lane < LANES; lane++) end.report(lane);
      end.tickWhileDue();
      end.hearAll();
      for (const datagram of end.out.splice(0)) ends[1 - i]!.receive(datagram);
    }
  }
}

function pair(): readonly [End, End] {
  const ends = [new End(1), new End(2)] as const;
  ends[0].meet(ends[1]);
  ends[1].meet(ends[0]);
  return ends;
}

describe('several lanes', () => {
  it('use no counter twice, deliver nothing twice, and agree in the end, whatever is late, lost, doubled or misled', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 20, maxLength: 120, size: 'max' }), (operations) => {
        const ends = pair();
        const seen = new Set<string>();
        let id = 0;
        const collect = (): void => {
          for (const [i, { out }] of ends.entries()) {
            for (const { bytes } of out) {
              if (bytes[0] !== DATA) continue;
              const key = `${i} ${Buffer.from(bytes.subarray(4, 16)).toString('hex')}`;
              if (bytes.length > 0 && collected.has(bytes)) continue;
              collected.add(bytes);
              expect(seen.has(key)).toBe(false);
              seen.add(key);
            }
          }
        };
        const collected = new WeakSet<Uint8Array>();
        for (const step of operations) {
          if (step.type === 'wait') {
            for (const end of ends) end.now += step.ms;
          } else {
            const end = ends[step.end]!;
            const other = ends[1 - step.end]!;
            if (step.type === 'send') end.send(step.lane, ipPacket(end.address, other.address, ++id));
            else if (step.type === 'hear') end.hear(step.lane);
            else if (step.type === 'report') end.report(step.lane);
            else if (step.type === 'rekey') end.device.rekey(undefined, end.now);
            else if (step.type === 'move') end.endpoint = { ...end.endpoint, port: step.port };
            else {
              const [datagram] = end.out.splice(step.which, 1);
              if (datagram !== undefined) other.receive(datagram, step.wrongly);
              if (datagram !== undefined && step.twice) other.receive(datagram);
            }
          }
          for (const end of ends) end.tickWhileDue();
          collect();
        }
        ends[0].device.rekey(undefined, ends[0].now);
        // What was begun at one moment may be in each other's way: it is begun again.
        for (let i = 0; i < 3; i++) {
          for (const end of ends) end.now += 6_000;
          settle(ends);
        }
        for (const end of ends) expect(new Set(end.delivered).size).toBe(end.delivered.length);
        // All lanes of both carry again, to where the other is.
        for (const [i, end] of ends.entries()) {
          const other = ends[1 - i]!;
          for (let lane = 0; lane < LANES; lane++) {
            end.send(lane, ipPacket(end.address, other.address, ++id));
            expect(end.out.map(({ to }) => to?.port)).toEqual([other.endpoint.port]);
            settle(ends);
            expect(other.delivered.at(-1)).toBe(id);
          }
          expect(other.device.status(other.now).peers[0]!.endpoint?.port).toBe(end.endpoint.port);
        }
      }),
      { numRuns: 100, seed: 7 },
    );
  });

  it('sum up to what a single lane counts', () => {
    const ends = pair();
    const [a, b] = ends;
    for (let i = 0; i < 30; i++) {
      a.send(i % LANES, ipPacket(a.address, b.address, i));
      settle(ends);
      b.send((i + 1) % LANES, ipPacket(b.address, a.address, i));
      settle(ends);
    }
    const [statusA, statusB] = [a.device.status(0).peers[0]!, b.device.status(0).peers[0]!];
    expect(statusA.txBytes).toBe(statusB.rxBytes);
    expect(statusB.txBytes).toBe(statusA.rxBytes);
    expect(a.delivered).toEqual(Array.from({ length: 30 }, (_, i) => i));
    expect(b.delivered).toEqual(a.delivered);
    expect(a.events.filter(({ type }) => type === 'session')).toHaveLength(1);
  });

  it('send nothing any more to a removed peer once they have heard, and open nothing even before', () => {
    const ends = pair();
    const [a, b] = ends;
    a.send(0, ipPacket(a.address, b.address, 1));
    settle(ends);
    b.send(0, ipPacket(b.address, a.address, 2));
    const [late] = b.out.splice(0);
    a.device.configure({ peers: [{ publicKey: b.publicKey, remove: true }] }, 0);
    const before = a.delivered.length;
    a.receive(late!);
    expect(a.delivered.length).toBe(before);
    for (let lane = 0; lane < LANES; lane++) a.send(lane, ipPacket(a.address, b.address, 3));
    expect(a.out).toEqual([]);
    a.publish();
    a.hearAll();
    for (let lane = 1; lane < LANES; lane++) a.report(lane);
    for (let lane = 0; lane < LANES; lane++) a.send(lane, ipPacket(a.address, b.address, 4));
    expect(a.out).toEqual([]);
    for (let lane = 1; lane < LANES; lane++) a.report(lane);
    expect(a.device.status(0).drops['no-route']).toBe(2 * LANES);
  });

  it('answer on the new session at once, before lane 0 has heard that it is confirmed', () => {
    const ends = pair();
    const [a, b] = ends;
    a.send(0, ipPacket(a.address, b.address, 1));
    settle(ends);
    // The one forgets everything, as after a crash; the other still has the old session.
    const reborn = new End(1, 1);
    reborn.now = 10_000;
    b.now = 10_000;
    reborn.meet(b);
    reborn.hearAll();
    reborn.send(1, ipPacket(a.address, b.address, 2));
    reborn.report(1);
    reborn.tickWhileDue();
    b.receive(reborn.out.shift()!);
    b.tickWhileDue();
    reborn.receive(b.out.pop()!);
    reborn.tickWhileDue();
    expect(reborn.out.length).toBe(1);
    b.receive(reborn.out.shift()!);
    expect(b.delivered.at(-1)).toBe(2);
    b.out = [];
    b.hearAll();
    for (let lane = 0; lane < LANES; lane++) b.send(lane, ipPacket(b.address, a.address, 10 + lane));
    reborn.hearAll();
    for (const datagram of b.out.splice(0)) reborn.receive(datagram);
    expect(reborn.delivered).toEqual([10, 11, 12]);
  });

  it('end with their keys: expiry on lane 0 is expiry everywhere', () => {
    const ends = pair();
    const [a, b] = ends;
    a.send(0, ipPacket(a.address, b.address, 1));
    settle(ends);
    a.now = 180_000;
    // By the clock of the lane itself, before lane 0 has ticked ...
    for (let lane = 1; lane < LANES; lane++) a.send(lane, ipPacket(a.address, b.address, 2));
    expect(a.out).toEqual([]);
    // ... and by word of lane 0.
    a.tick();
    a.hearAll();
    expect(a.device.status(a.now).peers[0]!.session).toBeUndefined();
  });
});
