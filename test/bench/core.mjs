/** Rows of the protocol core on one thread: what a packet, a handshake and a lookup cost, each with every crypto that runs here. */
import { randomBytes } from 'node:crypto';
import { Device, generatePrivateKey, HEADROOM, nobleCrypto, PacketBatch, VERDICT } from '@sealane/protocol';
import { CRYPTO_KINDS, selectCrypto } from '@sealane/tunnel';

const PACKET = 1420;
const STRIDE = 1504;
const BATCH = 40;
const random = (length) => new Uint8Array(randomBytes(length));
const endpoint = (port) => ({ address: Uint8Array.of(127, 0, 0, 1), port, scopeId: 0 });

/** Median of `rounds` runs of `body`, in microseconds per operation. */
function measure(operations, rounds, body) {
  body();
  const times = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    body();
    times.push(((performance.now() - start) * 1000) / operations);
  }
  return times.toSorted((a, b) => a - b)[rounds >> 1];
}

/** Seal and open of 1,420-byte packets, 40 in a batch, through two whole devices. */
function dataPath(crypto, cipherSuite) {
  const { a, b } = pair(crypto, cipherSuite);
  const batch = new PacketBatch(new Uint8Array(BATCH * STRIDE + 64), BATCH);
  const packet = ipv4Packet(PACKET);
  const source = endpoint(1);
  const fill = () => {
    batch.clear();
    for (let i = 0; i < BATCH; i++) {
      batch.buffer.set(packet, i * STRIDE + HEADROOM);
      batch.push(i * STRIDE + HEADROOM, PACKET, source);
    }
  };
  const batches = crypto.name.startsWith('noble') ? 10 : 200;
  const fillCost = measure(BATCH * batches, 5, () => {
    for (let n = 0; n < batches; n++) fill();
  });
  const seal = measure(BATCH * batches, 5, () => {
    for (let n = 0; n < batches; n++) {
      fill();
      a.seal(batch, 10);
    }
  });
  const both = measure(BATCH * batches, 5, () => {
    for (let n = 0; n < batches; n++) {
      fill();
      a.seal(batch, 10);
      b.open(batch, 10);
      if (batch.verdicts[0] !== VERDICT.deliver) throw new Error('the packet did not come through');
    }
  });
  return { seal: seal - fillCost, open: both - seal };
}

/** Handshakes a second that one thread completes on the responder's side: initiation in, response out. */
function handshakes(crypto) {
  const count = crypto.name.startsWith('noble') ? 20 : 200;
  const { b, initiations } = initiators(crypto, count);
  const batch = new PacketBatch(new Uint8Array(256), 1);
  let answered = 0;
  const start = performance.now();
  for (const [i, bytes] of initiations.entries()) {
    batch.clear();
    batch.buffer.set(bytes);
    batch.push(0, bytes.length, endpoint(1000 + i));
    b.open(batch, 10);
    answered += b.tick(10, Date.now()).datagrams.length;
  }
  if (answered !== count) throw new Error(`only ${answered} of ${count} initiations were answered`);
  return (count * 1000) / (performance.now() - start);
}

/** One allowed-IPs lookup and everything else that a packet to a dead end costs, by size of the table. */
function lookups(prefixes) {
  const device = new Device({ crypto: nobleCrypto, random });
  const allowedIps = Array.from({ length: prefixes }, (_, i) => ({
    address: Uint8Array.of(11 + (i >> 16), i >> 8, i, 0),
    length: 24,
  }));
  device.configure({ privateKey: generatePrivateKey(random), peers: [{ publicKey: random(32), allowedIps }] }, 0);
  const batch = new PacketBatch(new Uint8Array(256), 1);
  const packet = ipv4Packet(40);
  const operations = 100_000;
  return measure(operations, 5, () => {
    for (let i = 0; i < operations; i++) {
      const n = (i * 7919) % prefixes;
      packet.set([11 + (n >> 16), n >> 8, n, 1], 16);
      batch.clear();
      batch.buffer.set(packet, HEADROOM);
      batch.push(HEADROOM, packet.length);
      device.seal(batch, 1);
    }
  });
}

/** Every implementation that runs here, fastest first. */
function availableCryptos() {
  const byName = new Map(CRYPTO_KINDS.map((kind) => selectCrypto(kind)).map((crypto) => [crypto.name, crypto]));
  return [...byName.values()];
}

function pair(crypto, cipherSuite) {
  const [a, b] = [new Device({ crypto, random }), new Device({ crypto, random })];
  const [aKey, bKey] = [generatePrivateKey(random), generatePrivateKey(random)];
  const everything = [{ address: new Uint8Array(4), length: 0 }];
  const common = { allowedIps: everything, cipherSuite };
  a.configure(
    { privateKey: aKey, peers: [{ publicKey: crypto.publicKey(bKey), endpoint: endpoint(2), ...common }] },
    0,
  );
  b.configure({ privateKey: bKey, peers: [{ publicKey: crypto.publicKey(aKey), ...common }] }, 0);
  a.rekey(undefined, 0);
  let [from, to, port] = [a, b, 1];
  for (let datagrams = a.tick(1, Date.now()).datagrams; datagrams.length > 0;) {
    deliver(to, datagrams[0]?.bytes ?? new Uint8Array(), port);
    [from, to, port] = [to, from, 3 - port];
    datagrams = from.tick(1, Date.now()).datagrams;
  }
  return { a, b };
}

function initiators(crypto, count) {
  const b = new Device({ crypto, random });
  const bKey = generatePrivateKey(random);
  const peers = [];
  const initiations = [];
  for (let i = 0; i < count; i++) {
    const key = generatePrivateKey(random);
    const a = new Device({ crypto, random });
    a.configure({ privateKey: key, peers: [{ publicKey: crypto.publicKey(bKey), endpoint: endpoint(2) }] }, 0);
    a.rekey(undefined, 0);
    initiations.push(...a.tick(1, Date.now()).datagrams.map(({ bytes }) => bytes));
    peers.push({ publicKey: crypto.publicKey(key) });
  }
  b.configure({ privateKey: bKey, peers }, 0);
  return { b, initiations };
}

function deliver(device, bytes, port) {
  const batch = new PacketBatch(bytes.slice(), 1);
  batch.push(0, bytes.length, endpoint(port));
  device.open(batch, 1);
}

function ipv4Packet(length) {
  const packet = new Uint8Array(length);
  packet[0] = 0x45;
  packet[2] = length >> 8;
  packet[3] = length & 255;
  packet.set([10, 0, 0, 1], 12);
  packet.set([10, 0, 0, 2], 16);
  return packet;
}

export function coreRows() {
  const rows = [];
  for (const crypto of availableCryptos()) {
    for (const suite of ['chacha20poly1305', 'aes256gcm']) {
      const { seal, open } = dataPath(crypto, suite);
      rows.push({ row: `seal ${PACKET} B, ${suite}, ${crypto.name}`, value: seal, unit: 'us' });
      rows.push({ row: `open ${PACKET} B, ${suite}, ${crypto.name}`, value: open, unit: 'us' });
    }
    rows.push({ row: `handshakes answered, ${crypto.name}`, value: handshakes(crypto), unit: '/s' });
  }
  for (const prefixes of [10, 1_000, 100_000]) {
    rows.push({ row: `route one packet, ${prefixes} allowed IPs`, value: lookups(prefixes), unit: 'us' });
  }
  return rows;
}
