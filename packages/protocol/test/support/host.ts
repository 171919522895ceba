/** A device without a network: what it is given and what it returns, datagram by datagram. */
import { ipPacket } from '../../../../test/sim/packets.ts';
import { generator } from '../../../../test/sim/random.ts';
import { toyCrypto } from '../../../../test/sim/toy-crypto.ts';
import { HEADROOM, PacketBatch } from '../../src/batch.ts';
import type { Crypto } from '../../src/crypto.ts';
import { Device } from '../../src/device.ts';
import type { Endpoint } from '../../src/endpoint.ts';
import { clamp } from '../../src/keys.ts';
import type { OutgoingDatagram, PeerUpdate } from '../../src/model.ts';
import { ip } from './bytes.ts';

export const random = generator(123);
export const UNIX = 1_700_000_000_000;
export const ALL = [{ address: ip('0.0.0.0'), length: 0 }];
export const at = (host: number): Endpoint => ({ address: Uint8Array.of(192, 0, 2, host), port: 51_820, scopeId: 0 });

export class Host {
  readonly privateKey = random.bytes(32);
  readonly publicKey = toyCrypto.publicKey(clamp(this.privateKey.slice()));
  readonly device: Device;
  readonly batch = new PacketBatch(new Uint8Array(2_048), 1);

  constructor(lanes = 1, crypto: Crypto = toyCrypto) {
    this.device = new Device({ crypto, random: (length) => random.bytes(length), lanes });
    this.device.configure({ privateKey: this.privateKey, mtu: 1_420 }, 0);
  }

  send(now = 0): number {
    const packet = ipPacket(ip('10.0.0.1'), ip('10.0.0.2'), 0, 40);
    this.batch.clear();
    this.batch.buffer.set(packet, HEADROOM);
    this.batch.push(HEADROOM, packet.length);
    this.device.seal(this.batch, now);
    return this.batch.verdicts[0]!;
  }

  receive(bytes: Uint8Array, source?: Endpoint, now = 0): number {
    this.batch.clear();
    this.batch.buffer.set(bytes);
    this.batch.push(0, bytes.length, source);
    this.device.open(this.batch, now);
    return this.batch.verdicts[0]!;
  }

  peer(more: Partial<PeerUpdate> = {}): void {
    this.device.configure({ peers: [{ publicKey: random.bytes(32), ...more }] }, 0);
  }
}

/** Two hosts, peers of each other, with a session that `a` began. */
export function connected(): readonly [Host, Host] {
  const [a, b] = [new Host(), new Host()];
  a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
  b.peer({ publicKey: a.publicKey, allowedIps: ALL });
  a.send();
  for (const [from, to, source] of [
    [a, b, at(1)],
    [b, a, at(2)],
    [a, b, at(1)],
    [b, a, at(2)],
  ] as const) {
    for (const { bytes } of from.device.tick(0, UNIX).datagrams) to.receive(bytes, source);
  }
  return [a, b];
}

/** What `host` sends when it ticks, at most four times, as long as something is due. */
export function sentBy(host: Host, now: number): OutgoingDatagram[] {
  const sent: OutgoingDatagram[] = [];
  for (let n = 0; n < 4 && host.device.nextDeadline().at <= now; n++) {
    sent.push(...host.device.tick(now, UNIX + now).datagrams);
  }
  return sent;
}
