/**
 * A change on its way to the packet thread. Cloning a message costs most for each small array in it, and a change may bring
 * 100,000 prefixes: those of a peer travel as one.
 */
import type { AllowedIpUpdate, PeerUpdate } from '@sealane/protocol';
import type { TunnelUpdate } from '../model.ts';

/** Bytes of one prefix: its length, whether to remove it, bytes of the address, the address. */
const LENGTH = 0;
const REMOVE = 1;
const SIZE = 2;
const ADDRESS = 3;
const STRIDE = ADDRESS + 16;

interface PackedPeer extends PeerUpdate {
  readonly packedAllowedIps?: Uint8Array;
}

export interface PackedUpdate extends Omit<TunnelUpdate, 'peers'> {
  readonly peers?: readonly PackedPeer[];
}

/** What is wrong is left as it is: the device says so. The other arrays of the update are not copied. */
export function packUpdate({ peers, ...update }: TunnelUpdate): PackedUpdate {
  if (peers === undefined) return update;
  const packed = peers.map((peer) => {
    const { allowedIps = [], ...others } = peer;
    return allowedIps.length === 0 || !allowedIps.every(fits)
      ? peer
      : { ...others, packedAllowedIps: pack(allowedIps) };
  });
  return { ...update, peers: packed };
}

export function unpackUpdate({ peers, ...update }: PackedUpdate): TunnelUpdate {
  if (peers === undefined) return update;
  const unpacked = peers.map(({ packedAllowedIps, ...peer }) =>
    packedAllowedIps === undefined ? peer : { ...peer, allowedIps: unpack(packedAllowedIps) },
  );
  return { ...update, peers: unpacked };
}

function fits({ address, length }: AllowedIpUpdate): boolean {
  return (address.length === 4 || address.length === 16) && Number.isInteger(length) && length >= 0 && length <= 128;
}

function pack(prefixes: readonly AllowedIpUpdate[]): Uint8Array {
  const bytes = new Uint8Array(prefixes.length * STRIDE);
  for (const [i, { address, length, remove }] of prefixes.entries()) {
    const at = i * STRIDE;
    bytes[at + LENGTH] = length;
    bytes[at + REMOVE] = remove === true ? 1 : 0;
    bytes[at + SIZE] = address.length;
    bytes.set(address, at + ADDRESS);
  }
  return bytes;
}

function unpack(bytes: Uint8Array): AllowedIpUpdate[] {
  return Array.from({ length: bytes.length / STRIDE }, (_, i) => {
    const at = i * STRIDE;
    const address = bytes.subarray(at + ADDRESS, at + ADDRESS + bytes[at + SIZE]!);
    return { address, length: bytes[at + LENGTH]!, ...(bytes[at + REMOVE] === 1 && { remove: true }) };
  });
}
