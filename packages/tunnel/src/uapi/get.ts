/** The `get` operation of the cross-platform interface, in wireguard-go's order of lines. */
import { type DeviceSecrets, isZeroKey, keyId, type PeerStatus } from '@sealane/protocol';
import { formatEndpoint, formatPrefix } from '../ip-text.ts';
import type { LaneStatus } from '../model.ts';
import { LineWriter } from './bytes.ts';

const NO_KEY = new Uint8Array(32);

/** The lines that `wg show` and `wg showconf` read, without the final errno; the caller wipes them. */
export function encodeGet(status: LaneStatus, secrets: DeviceSecrets): Uint8Array {
  const writer = new LineWriter();
  if (secrets.privateKey !== undefined && !isZeroKey(secrets.privateKey)) {
    writer.hexLine('private_key', secrets.privateKey);
  }
  if (status.listenPort !== 0) writer.line(`listen_port=${status.listenPort}`);
  if (status.fwmark !== 0) writer.line(`fwmark=${status.fwmark}`);
  const presharedKeys = new Map(secrets.presharedKeys.map((entry) => [keyId(entry.publicKey), entry.presharedKey]));
  for (const peer of status.device.peers) writePeer(writer, peer, presharedKeys.get(keyId(peer.publicKey)) ?? NO_KEY);
  return writer.take();
}

function writePeer(writer: LineWriter, peer: PeerStatus, presharedKey: Uint8Array): void {
  const handshake = Math.floor(peer.lastHandshake ?? 0);
  writer.hexLine('public_key', peer.publicKey);
  writer.hexLine('preshared_key', presharedKey);
  writer.line('protocol_version=1');
  if (peer.endpoint !== undefined) writer.line(`endpoint=${formatEndpoint(peer.endpoint)}`);
  writer.line(`last_handshake_time_sec=${Math.floor(handshake / 1_000)}`);
  writer.line(`last_handshake_time_nsec=${(handshake % 1_000) * 1_000_000}`);
  writer.line(`tx_bytes=${peer.txBytes}`);
  writer.line(`rx_bytes=${peer.rxBytes}`);
  writer.line(`persistent_keepalive_interval=${peer.persistentKeepalive}`);
  for (const prefix of peer.allowedIps) writer.line(`allowed_ip=${formatPrefix(prefix)}`);
}
