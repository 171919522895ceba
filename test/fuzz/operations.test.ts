/** Any calls in any order with any time throw nothing but errors that name an argument, and no deadline stays due for ever. */
import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import { Device, HEADROOM, PacketBatch, TAILROOM } from '@sealane/protocol';
import { ipPacket } from '../sim/packets.ts';
import { generator } from '../sim/random.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';

const RUNS = Math.ceil(Number(process.env['SEALANE_FUZZ'] ?? 500_000) / 500);
const KEYS = Array.from({ length: 4 }, (_, i) => new Uint8Array(32).fill(i));
const KNOWN = /^(privateKey|mtu|peers)/;

const key = fc.constantFrom(...KEYS, new Uint8Array(31), new Uint8Array(32).fill(255));
const address = fc.constantFrom(
  Uint8Array.of(10, 0, 0, 1),
  Uint8Array.of(10, 0, 0, 2),
  new Uint8Array(16),
  new Uint8Array(5),
);
const port = fc.constantFrom(0, 1, 51_820, 65_535, 65_536, Number.NaN);
const peer = fc.record(
  {
    publicKey: key.map((bytes) => (bytes.length === 32 ? toyCrypto.publicKey(bytes) : bytes)),
    remove: fc.boolean(),
    updateOnly: fc.boolean(),
    presharedKey: key,
    endpoint: fc.record({ address, port, scopeId: fc.constant(0) }),
    persistentKeepalive: fc.constantFrom(0, 1, 25, 65_535, 65_536, -1, 0.5),
    replaceAllowedIps: fc.boolean(),
    allowedIps: fc.array(fc.record({ address, length: fc.integer({ min: -1, max: 129 }), remove: fc.boolean() }), {
      maxLength: 3,
    }),
    rekeyInterval: fc.constantFrom(9_999, 10_000, 120_000, 120_001),
    postQuantum: fc.constantFrom(0, 1, 10_000, 86_400_001, Number.NaN),
    cipherSuite: fc.constantFrom('chacha20poly1305' as const, 'aes256gcm' as const),
  },
  { requiredKeys: ['publicKey'] },
);
const operation = fc.oneof(
  fc.record({
    do: fc.constant('configure' as const),
    update: fc.record(
      {
        privateKey: key,
        mtu: fc.integer({ min: -1, max: 65_536 }),
        replacePeers: fc.boolean(),
        peers: fc.array(peer, { maxLength: 4 }),
      },
      { requiredKeys: [] },
    ),
  }),
  fc.record({ do: fc.constant('seal' as const), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ do: fc.constant('open' as const), bytes: fc.uint8Array({ maxLength: 200 }) }),
  fc.record({ do: fc.constant('carry' as const) }),
  fc.record({ do: fc.constant('rekey' as const) }),
  fc.record({
    do: fc.constant('wait' as const),
    ms: fc.oneof(fc.integer({ min: -5_000, max: 20_000 }), fc.constantFrom(120_000, 180_000, 600_000, -1e9, 1e9)),
  }),
  fc.record({ do: fc.constant('wall' as const), ms: fc.constantFrom(-1e12, -3_600_000, 3_600_000, 1e12) }),
  fc.record({ do: fc.constant('close' as const) }),
);

describe('operations on two devices', () => {
  it(`${RUNS} sequences`, { timeout: 120_000 + RUNS * 20 }, () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), fc.nat(), (operations, seed) => {
        const random = generator(seed);
        const devices = [0, 1].map(() => new Device({ crypto: toyCrypto, random: (length) => random.bytes(length) }));
        const [first, second] = devices as [Device, Device];
        let [now, unix] = [1_000, 1_767_225_600_000];
        const endpoint = { address: Uint8Array.of(192, 0, 2, 1), port: 51_820, scopeId: 0 };
        const waiting: Uint8Array[] = [];
        const settle = (device: Device): void => {
          for (let turns = 0; device.nextDeadline().at <= now; turns++) {
            if (turns > 2_000) throw new Error(`'${device.nextDeadline().why}' stays due`);
            for (const { bytes } of device.tick(now, unix).datagrams) waiting.push(bytes);
          }
        };
        const open = (device: Device, bytes: Uint8Array): void => {
          const batch = new PacketBatch(bytes.slice(), 1);
          batch.push(0, bytes.length, endpoint);
          device.open(batch, now);
        };
        for (const step of operations) {
          const device = random.chance(0.5) ? first : second;
          try {
            if (step.do === 'configure') device.configure(step.update, now);
          } catch (error) {
            // A caller's mistake is named.
            if (!(error instanceof RangeError && KNOWN.test(error.message))) throw error;
          }
          if (step.do === 'seal') {
            for (let i = 0; i < step.count; i++) {
              const packet = ipPacket(Uint8Array.of(10, 0, 0, 2), Uint8Array.of(10, 0, 0, 1), i, 40);
              const batch = new PacketBatch(new Uint8Array(HEADROOM + packet.length + TAILROOM), 1);
              batch.buffer.set(packet, HEADROOM);
              batch.push(HEADROOM, packet.length);
              device.seal(batch, now);
            }
          } else if (step.do === 'open') {
            open(device, step.bytes);
          } else if (step.do === 'carry') {
            for (const bytes of waiting.splice(0)) open(random.chance(0.5) ? first : second, bytes);
          } else if (step.do === 'rekey') {
            device.rekey(undefined, now);
          } else if (step.do === 'wait') {
            now += step.ms;
            unix += step.ms;
          } else if (step.do === 'wall') {
            unix += step.ms;
          } else if (step.do === 'close') {
            device.close();
          }
          for (const each of devices) {
            settle(each);
            each.status(now);
          }
        }
      }),
      { numRuns: RUNS, seed: Number(process.env['SEALANE_SEED'] ?? 1) },
    );
  });
});
