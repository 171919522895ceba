/**
 * A process that makes sessions and ends them, and tells its parent which secrets it had: each as one line of JSON, masked, so
 * that what is told cannot be what is found. It waits for a line on standard input before each step.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Device, HEADROOM, PacketBatch, TAILROOM } from '@sealane/protocol';
import { memoryPair, openTunnel, selectCrypto } from '@sealane/tunnel';
import { tell, telling } from './telling.mjs';

const [, , mode, kind] = process.argv;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const step = async (name) => {
  // node:crypto's key objects free (and erase) their keys when they are collected.
  for (let i = 0; kind === 'node' && i < 3; i++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  writeSync(1, `${JSON.stringify({ step: name })}\n`);
  await lines.next();
};

const crypto = telling(selectCrypto(kind));
const random = (length) => globalThis.crypto.getRandomValues(new Uint8Array(new ArrayBuffer(length)));
const inner = [Uint8Array.of(127, 9, 0, 1), Uint8Array.of(127, 9, 0, 2)];
const keys = [random(32), random(32)];
const publicKeys = keys.map((key) => selectCrypto(kind).publicKey(key));
for (const [i, key] of keys.entries()) {
  key[0] &= 248;
  key[31] = (key[31] & 127) | 64;
  tell('static', key);
  const shared = selectCrypto(kind).dh(key, publicKeys[1 - i]);
  tell('static shared', shared);
  shared.fill(0);
}

function packetOf(from, to) {
  const packet = new Uint8Array(40);
  packet.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 253]);
  packet.set(from, 12);
  packet.set(to, 16);
  return packet;
}

/** Two devices under a clock of their own, so that nine minutes pass at once; hedged ones keep a derived key until the peer is removed. */
async function devices(isHedged) {
  let now = 1_000;
  const unix = 1_767_225_600_000;
  const endpoints = [1, 2].map((n) => ({ address: Uint8Array.of(127, 0, 0, n), port: 1_000, scopeId: 0 }));
  const pair = keys.map((privateKey, i) => {
    const device = new Device({ crypto, random });
    const allowedIps = [{ address: inner[1 - i], length: 32 }];
    const hedge = isHedged ? { postQuantum: 60_000 } : {};
    const peer = { publicKey: publicKeys[1 - i], endpoint: endpoints[1 - i], allowedIps, ...hedge };
    device.configure({ privateKey, mtu: 1_420, peers: [peer] }, now);
    return device;
  });
  const carry = (to, bytes) => {
    const batch = new PacketBatch(bytes, 1);
    batch.push(0, bytes.length, endpoints[1 - to]);
    pair[to].open(batch, now);
  };
  const run = (until) => {
    for (;;) {
      const at = Math.min(...pair.map((device) => device.nextDeadline().at));
      if (at > until) break;
      now = Math.max(now, at);
      for (const [i, device] of pair.entries()) {
        for (const { bytes } of device.tick(now, unix + now).datagrams) carry(1 - i, bytes);
      }
    }
    now = until;
  };
  const send = (from) => {
    const batch = new PacketBatch(new Uint8Array(HEADROOM + 40 + TAILROOM), 1);
    batch.buffer.set(packetOf(inner[from], inner[1 - from]), HEADROOM);
    batch.push(HEADROOM, 40);
    pair[from].seal(batch, now);
    if (batch.verdicts[0] === 1)
      carry(1 - from, batch.buffer.slice(batch.offsets[0], batch.offsets[0] + batch.lengths[0]));
  };
  for (let i = 0; i < 300; i++) {
    send(i % 2);
    run(now + 1_000);
  }
  await step('live');
  if (isHedged) {
    if (!pair.every((device) => device.status(now).peers[0].session.hedged)) throw new Error('no derived key in use');
    const gone = (i) => ({ peers: [{ publicKey: publicKeys[1 - i], remove: true }] });
    for (const [i, device] of pair.entries()) device.configure(gone(i), now);
  }
  run(now + 600_000);
  await step('ended');
  for (const device of pair) device.close();
  for (const key of keys) key.fill(0);
  await step('closed');
}

/** Two tunnels over loopback sockets. */
async function tunnels() {
  const made = [];
  for (const [i, privateKey] of keys.entries()) {
    const [device, outside] = memoryPair({ name: `t${i}` });
    outside.start({ readable() {}, link() {}, closed() {} });
    made.push({
      tunnel: await openTunnel({ device, crypto, lane: 'portable', config: { privateKey, mtu: 1_420 } }),
      outside,
    });
  }
  for (const [i, { tunnel }] of made.entries()) {
    const { listenPort } = await made[1 - i].tunnel.status();
    const endpoint = { address: Uint8Array.of(127, 0, 0, 1), port: listenPort, scopeId: 0 };
    await tunnel.configure({
      peers: [{ publicKey: publicKeys[1 - i], endpoint, allowedIps: [{ address: inner[1 - i], length: 32 }] }],
    });
  }
  for (let round = 0; round < 4; round++) {
    await made[0].tunnel.rekey();
    for (let i = 0; i < 20; i++) {
      for (const from of [0, 1]) {
        const packet = packetOf(inner[from], inner[1 - from]);
        made[from].outside.write(packet, 0, packet.length);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  await step('live');
  for (const [i, { tunnel }] of made.entries()) {
    await tunnel.configure({ peers: [{ publicKey: publicKeys[1 - i], remove: true }] });
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  await step('ended');
  for (const { tunnel } of made) await tunnel.close();
  for (const key of keys) key.fill(0);
  await step('closed');
}

await (mode === 'tunnels' ? tunnels() : devices(mode === 'hedged devices'));
process.exit(0);
