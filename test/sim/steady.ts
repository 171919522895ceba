/**
 * Two devices and a packet every so often each way over a link that only takes its time. There is no network in between to
 * decide anything, so that a day of traffic is a matter of a second; whatever is lost or reordered, the devices did.
 */
import { Device, HEADROOM, PacketBatch, TAILROOM, VERDICT } from '@sealane/protocol';
import type { Crypto, Endpoint } from '@sealane/protocol';
import { ipPacket } from './packets.ts';
import type { Generator } from './random.ts';

export interface SteadyOptions {
  readonly random: Generator;
  readonly crypto: Crypto;
  readonly ms: number;
  readonly gapMs: number;
  readonly delayMs: number;
}

export interface SteadyResult {
  readonly sent: number;
  readonly delivered: number;
  /** Arrived with a number that is not greater than the one before: reordered or twice. */
  readonly outOfOrder: number;
  readonly initiations: readonly [number, number];
  readonly drops: number;
}

const SLOTS = 1_024;
const SLOT = 256;
const LENGTH = 64;
const UNIX_START = 1_767_225_600_000;

/** Datagrams on their way, in the order in which they left. */
interface Way {
  readonly buffer: Uint8Array;
  readonly at: Float64Array;
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  head: number;
  tail: number;
}

interface Side {
  readonly device: Device;
  readonly endpoint: Endpoint;
  readonly packet: Uint8Array;
  readonly out: Way;
  /** Seals in the slots of `out`. */
  readonly sealing: PacketBatch;
  /** Opens in the slots of the other side's `out`. */
  opening: PacketBatch;
  readonly clockOffset: number;
  nextSend: number;
  /** When the device wants a tick, by its own clock. */
  announced: number;
  /** The same in world time. */
  due: number;
  sent: number;
  delivered: number;
  lastId: number;
  outOfOrder: number;
  initiations: number;
}

export function steady(options: SteadyOptions): SteadyResult {
  const { random, crypto, ms, gapMs, delayMs } = options;
  const keys = [random.bytes(32), random.bytes(32)];
  const inner = [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(10, 0, 0, 2)];
  const sides = keys.map((privateKey, i): Side => {
    const draw = random.fork(`side ${i}`);
    const device = new Device({ crypto, random: (length) => draw.bytes(length) });
    const endpoint = { address: Uint8Array.of(192, 0, 2, i + 1), port: 51_820, scopeId: 0 };
    const clockOffset = draw.below(2 ** 31);
    device.configure({ privateKey, mtu: 1_420 }, clockOffset);
    const out = newWay();
    const sealing = new PacketBatch(out.buffer, 1);
    const packet = ipPacket(inner[i]!, inner[1 - i]!, 0, LENGTH);
    // The second waits until there is a session: who begins is not what is asked here.
    const nextSend = i === 0 ? 0 : 1_000 + random.between(0, gapMs);
    return {
      device,
      endpoint,
      packet,
      out,
      sealing,
      opening: sealing,
      clockOffset,
      nextSend,
      announced: Infinity,
      due: Infinity,
      sent: 0,
      delivered: 0,
      lastId: -1,
      outOfOrder: 0,
      initiations: 0,
    };
  });
  const [a, b] = sides as [Side, Side];
  for (const [side, other, i] of [
    [a, b, 1],
    [b, a, 0],
  ] as const) {
    side.opening = new PacketBatch(other.out.buffer, 1);
    const allowedIps = [{ address: inner[i]!, length: 32 }];
    const peer = { publicKey: crypto.publicKey(keys[i]!), endpoint: other.endpoint, allowedIps };
    side.device.configure({ peers: [peer] }, side.clockOffset);
  }

  const end = ms + 2_000;
  for (let now = 0; now <= end;) {
    let next = Infinity;
    for (const side of sides) {
      const other = side === a ? b : a;
      if (side.nextSend <= now && now < ms) send(side, now, delayMs, gapMs);
      while (arrival(other.out) <= now) receive(side, other, now);
      for (let turns = 0; side.due <= now + 1e-3; turns++) {
        if (turns > 100) throw new Error(`'${side.device.nextDeadline().why}' stays due at ${now} ms`);
        tick(side, now, delayMs);
      }
    }
    for (const side of sides) {
      const sending = side.nextSend < ms ? side.nextSend : Infinity;
      next = Math.min(next, sending, arrival(side.out), side.due);
    }
    now = Math.max(next, now + 1e-6);
  }
  const drops = sides.flatMap(({ device, clockOffset }) => Object.values(device.status(clockOffset + end).drops));
  return {
    sent: a.sent + b.sent,
    delivered: a.delivered + b.delivered,
    outOfOrder: a.outOfOrder + b.outOfOrder,
    initiations: [a.initiations, b.initiations],
    drops: drops.reduce((sum, count) => sum + count, 0),
  };
}

function send(side: Side, now: number, delayMs: number, gapMs: number): void {
  const { out, packet, sealing, device } = side;
  const slot = (out.tail % SLOTS) * SLOT;
  out.buffer.set(packet, slot + HEADROOM);
  sealing.view.setUint32(slot + HEADROOM + 20, side.sent++);
  sealing.clear();
  sealing.push(slot + HEADROOM, LENGTH);
  device.seal(sealing, now + side.clockOffset);
  if (sealing.verdicts[0] === VERDICT.send) launch(out, now + delayMs, sealing.offsets[0]!, sealing.lengths[0]!);
  side.nextSend += gapMs;
  announce(side);
}

function receive(side: Side, other: Side, now: number): void {
  const { opening } = side;
  const way = other.out;
  const i = way.head++ % SLOTS;
  opening.clear();
  opening.push(way.offsets[i]!, way.lengths[i]!, other.endpoint);
  side.device.open(opening, now + side.clockOffset);
  announce(side);
  if (opening.verdicts[0] !== VERDICT.deliver) return;
  const id = opening.view.getUint32(opening.offsets[0]! + 20);
  side.delivered++;
  if (id <= side.lastId) side.outOfOrder++;
  side.lastId = id;
}

function tick(side: Side, now: number, delayMs: number): void {
  // The sum of two doubles may lie a hair before the instant that was announced.
  const at = Math.max(now + side.clockOffset, side.announced);
  const { datagrams } = side.device.tick(at, UNIX_START + now);
  announce(side);
  for (const { bytes } of datagrams) {
    if (bytes[0] === 1) side.initiations++;
    const slot = (side.out.tail % SLOTS) * SLOT;
    side.out.buffer.set(bytes, slot);
    launch(side.out, now + delayMs, slot, bytes.length);
  }
}

function announce(side: Side): void {
  side.announced = side.device.nextDeadline().at;
  side.due = side.announced - side.clockOffset;
}

function launch(way: Way, at: number, offset: number, length: number): void {
  if (way.tail - way.head >= SLOTS) throw new Error('the link holds too much');
  const i = way.tail++ % SLOTS;
  way.at[i] = at;
  way.offsets[i] = offset;
  way.lengths[i] = length;
}

function arrival(way: Way): number {
  return way.head === way.tail ? Infinity : way.at[way.head % SLOTS]!;
}

function newWay(): Way {
  return {
    buffer: new Uint8Array(SLOTS * SLOT + TAILROOM),
    at: new Float64Array(SLOTS),
    offsets: new Uint32Array(SLOTS),
    lengths: new Uint32Array(SLOTS),
    head: 0,
    tail: 0,
  };
}
