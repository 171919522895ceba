/**
 * A UDP relay that treats datagrams badly, for tests: `node relay.mjs PORT TARGET-HOST TARGET-PORT JSON`, where JSON may have
 * `seed` and the shares (0 to 1) of datagrams to `lose`, to `duplicate`, to `corrupt` and to `delay` past up to `depth` later ones.
 * The same seed treats the same datagrams alike. Prints `ready` when it listens and its counts, as JSON, when it gets SIGTERM;
 * among them the `data` messages that were sent to it, and how many of these had the receiver and counter of an earlier one.
 */
import { createSocket } from 'node:dgram';

const [port, targetHost, targetPort, options = '{}'] = process.argv.slice(2);
const { seed = 1, lose = 0, duplicate = 0, corrupt = 0, delay = 0, depth = 1 } = JSON.parse(options);
const counts = { seen: 0, lost: 0, duplicated: 0, corrupted: 0, delayed: 0, data: 0, repeated: 0, sessions: 0 };
/** Datagrams of a direction that wait only for later ones leave at last after so many milliseconds. */
const LONGEST_WAIT = 200;

let state = seed >>> 0;
function random() {
  // xorshift32
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

const DATA = 4;

/** Notes the counter of a data message among those of its receiver index. */
function note(sessions, bytes) {
  if (bytes[0] !== DATA || bytes.length < 32) return;
  counts.data += 1;
  const receiver = bytes.readUInt32LE(4);
  let counters = sessions.get(receiver);
  if (counters === undefined) {
    sessions.set(receiver, (counters = new Set()));
    counts.sessions += 1;
  }
  const counter = Number(bytes.readBigUInt64LE(8));
  if (counters.has(counter)) counts.repeated += 1;
  counters.add(counter);
}

/** One direction: `forward` sends a datagram on. */
function direction(forward) {
  const waiting = [];
  const sessions = new Map();
  return (bytes) => {
    counts.seen += 1;
    note(sessions, bytes);
    for (let i = waiting.length - 1; i >= 0; i--) {
      waiting[i].after -= 1;
      if (waiting[i].after <= 0) waiting.splice(i, 1)[0].go();
    }
    if (random() < lose) {
      counts.lost += 1;
      return;
    }
    if (random() < corrupt) {
      counts.corrupted += 1;
      bytes[Math.floor(random() * bytes.length)] ^= 1 << Math.floor(random() * 8);
    }
    if (random() < duplicate) {
      counts.duplicated += 1;
      forward(bytes);
    }
    if (random() >= delay) {
      forward(bytes);
      return;
    }
    counts.delayed += 1;
    let gone = false;
    const entry = {
      after: 1 + Math.floor(random() * depth),
      go: () => {
        if (!gone) forward(bytes);
        gone = true;
      },
    };
    waiting.push(entry);
    setTimeout(entry.go, LONGEST_WAIT);
  };
}

const outside = createSocket('udp4');
const inside = createSocket('udp4');
let client;
const inwards = direction((bytes) => inside.send(bytes, Number(targetPort), targetHost));
const outwards = direction((bytes) => outside.send(bytes, client.port, client.address));
outside.on('message', (bytes, from) => {
  client = from;
  inwards(bytes);
});
inside.on('message', (bytes) => outwards(bytes));
// A target that is not there yet is part of a bad link.
for (const socket of [outside, inside]) socket.on('error', () => {});
process.on('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(counts)}\n`, () => process.exit(0));
});
outside.bind(Number(port), () => process.stdout.write('ready\n'));
