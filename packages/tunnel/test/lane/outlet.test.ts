/** The Linux lane's way out, over loopback. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Endpoint, PeerHandle } from '@sealane/protocol';
import { describe, expect, it } from 'vitest';
import { Faults } from '../../src/lane/faults.ts';
import { Outlet } from '../../src/lane/outlet.ts';
import { addressOf } from '../../src/linux/foreign.ts';
import { lowBuffer } from '../../src/linux/low-memory.ts';
import { Routes } from '../../src/linux/routes.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const PEERS = 500;

describe.runIf(process.platform === 'linux')('an outlet', () => {
  it('keeps no peer that is gone, although all were sent to from the address that they spoke to', async () => {
    const sink = createSocket('udp4').bind(0, '127.0.0.1');
    await once(sink, 'listening');
    let received = 0;
    sink.on('message', () => (received += 1));
    const memory = new Uint8Array(lowBuffer(64));
    const faults = new Faults();
    const forgotten: PeerHandle[] = [];
    const outlet = new Outlet({
      base: addressOf(memory),
      faults,
      notes: [],
      forgetSource: (peer) => forgotten.push(peer),
    });
    outlet.setUp(true);
    const routes = Routes.open()!;
    try {
      // One behind another at one address, as clients behind a NAT are.
      const endpoint = (interfaceIndex: number): Endpoint => ({
        address: LOOPBACK,
        port: sink.address().port,
        scopeId: 0,
        source: { address: LOOPBACK, interfaceIndex },
      });
      const refs = Array.from({ length: PEERS }, () => {
        const peer = { publicKey: new Uint8Array(32), endpoint: endpoint(1) };
        outlet.sendOne(peer.endpoint, peer, 0, 32, 0);
        return new WeakRef(peer);
      });
      await expect.poll(() => received, { timeout: 20_000 }).toBeGreaterThan(0);
      expect(faults.snapshot()).toEqual({});
      await new Promise(setImmediate);
      collectGarbage();
      expect(refs.filter((ref) => ref.deref() !== undefined).length).toBeLessThan(PEERS / 10);

      // Those that are there lose a source that their way out does not have.
      const [here, elsewhere] = [1, 2_000_000].map((index) => ({ publicKey: memory, endpoint: endpoint(index) }));
      const roaming = { publicKey: memory, endpoint: { address: LOOPBACK, port: 9, scopeId: 0 } };
      outlet.checkSources(routes, [here!, elsewhere!, roaming]);
      expect(forgotten).toEqual([elsewhere]);
    } finally {
      routes.close();
      outlet.close();
      sink.close();
    }
  });
});
