/** Claims counters of a shared session as fast as it can, together with others, and tells which it got. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedKeypair, SharedSession } from '../../dist/shared-session.js';

const { buffer, start, packets, seed } = workerData;
const nothing = { seal() {}, wipe() {} };
const keypair = new SharedKeypair({
  session: new SharedSession(buffer),
  sealer: nothing,
  opener: undefined,
  isInitiator: true,
  localIndex: 1,
  remoteIndex: 2,
  createdAt: 0,
  renewAt: Infinity,
  yields: false,
  derivedKey: 0,
});
const counters = new BigUint64Array(packets);
let got = 0;
let state = seed;

Atomics.add(start, 0, 1);
Atomics.notify(start, 0);
Atomics.wait(start, 1, 0);
for (let now = 0; got < packets; now++) {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  const batch = Math.min(1 + ((state >>> 16) % 100), packets - got);
  let i = 0;
  for (; i < batch && keypair.claim(now, batch - i); i++) {
    counters[got++] = (BigInt(keypair.counterHigh) << 32n) | BigInt(keypair.counterLow);
    keypair.advanceCounter();
  }
  if (i < batch) break;
}
parentPort.postMessage(counters.slice(0, got), []);
