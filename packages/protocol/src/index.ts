/** @module The WireGuard-compatible protocol: bytes and time in, bytes and events out. */
export { HEADROOM, PacketBatch, TAILROOM, type PeerHandle } from './batch.ts';
export * from './constants.ts';
export {
  CIPHER_SUITES,
  copySecret,
  secretBytes,
  wipe,
  type Aead,
  type CipherSuite,
  type Crypto,
  type PacketOpener,
  type PacketSealer,
} from './crypto.ts';
export { Device, type DeviceOptions } from './device.ts';
export { DROP_REASONS, dropReason, dropVerdict, FIRST_DROP, VERDICT, type DropReason } from './drops.ts';
export { sameEndpoint, sameRemote, withoutSource, type Endpoint } from './endpoint.ts';
export { destinationOffset, ipPacketLength, isIpv4, sourceOffset } from './ip.ts';
export { formatKey, generatePrivateKey, isZeroKey, KEY_LENGTH, keyId, parseKey } from './keys.ts';
export { laneOf, type LaneChange, type LaneReport, type PeerTraffic } from './lane-model.ts';
export { LaneReplica, type LaneReplicaOptions } from './lane-replica.ts';
export type * from './model.ts';
export { nobleCrypto } from './noble.ts';
export { isAfter, TIMESTAMP_LENGTH, timestampAt } from './tai64n.ts';
