/**
 * The `set` operation of the cross-platform interface (wireguard.com/xplatform): lines in, one update out.
 * Nothing is applied before the last line was understood. Besides the standard keys a peer has
 * `rekey_interval_ms` (10000 to 120000), `cipher_suite` and `post_quantum_ms` (0 or 10000 to 86400000), which only Sealane sends.
 */
import {
  type AllowedIpUpdate,
  CIPHER_SUITES,
  type CipherSuite,
  type Endpoint,
  keyId,
  MAX_POST_QUANTUM_INTERVAL,
  MIN_POST_QUANTUM_INTERVAL,
  MIN_REKEY_INTERVAL,
  type PeerUpdate,
  REKEY_AFTER_TIME,
  wipe,
} from '@sealane/protocol';
import { formatEndpoint, formatPrefix, parseEndpoint, parsePrefix } from '../ip-text.ts';
import type { TunnelUpdate } from '../model.ts';
import { asciiText, LineWriter, parseHexKey } from './bytes.ts';
import { ERRNO, UapiError } from './error.ts';

/** Collects the lines of one `set` operation. */
export class SetOperation {
  readonly #device: { privateKey?: Uint8Array; listenPort?: number; fwmark?: number; replacePeers?: boolean } = {};
  readonly #peers: PeerDraft[] = [];

  /** Takes one line that is not blank; throws a UapiError with the errno that the operation shall end with. */
  add(line: Uint8Array): void {
    const equals = line.indexOf(0x3d);
    if (equals < 0) throw new UapiError(ERRNO.EPROTO, 'line without =');
    const key = asciiText(line.subarray(0, Math.min(equals, 64)));
    const value = line.subarray(equals + 1);
    if (key === 'public_key') this.#peers.push({ publicKey: hexKey(key, value), allowedIps: [] });
    else if (this.#peers.length === 0) this.#addDevice(key, value);
    else addPeer(this.#peers.at(-1)!, key, value);
  }

  /** The whole operation as one update. */
  finish(): TunnelUpdate {
    const peers = this.#peers.map(toUpdate);
    return { ...this.#device, peers: this.#device.replacePeers === true ? startingAfresh(peers) : peers };
  }

  wipe(): void {
    wipe(this.#device.privateKey, ...this.#peers.map((peer) => peer.presharedKey));
  }

  #addDevice(key: string, value: Uint8Array): void {
    switch (key) {
      case 'private_key':
        wipe(this.#device.privateKey);
        this.#device.privateKey = hexKey(key, value);
        return;
      case 'listen_port':
        this.#device.listenPort = decimal(key, value, 0xffff);
        return;
      case 'fwmark':
        this.#device.fwmark = decimal(key, value, 0xffff_ffff);
        return;
      case 'replace_peers':
        onlyTrue(key, value);
        this.#device.replacePeers = true;
        return;
      default:
        throw new UapiError(ERRNO.EINVAL, 'unknown device key');
    }
  }
}

/**
 * The lines of a `set` operation that makes this update, `set=1` and the blank line included, with the secrets in it.
 * `replacePeers` has no counterpart there that keeps sessions and is left out.
 */
export function encodeSet(update: TunnelUpdate): Uint8Array {
  const writer = new LineWriter();
  writer.line('set=1');
  if (update.privateKey !== undefined) writer.hexLine('private_key', update.privateKey);
  if (update.listenPort !== undefined) writer.line(`listen_port=${update.listenPort}`);
  if (update.fwmark !== undefined) writer.line(`fwmark=${update.fwmark}`);
  for (const peer of update.peers ?? []) encodePeer(writer, peer);
  writer.line('');
  return writer.take();
}

interface PeerDraft {
  readonly publicKey: Uint8Array;
  remove?: boolean;
  updateOnly?: boolean;
  presharedKey?: Uint8Array;
  endpoint?: Endpoint;
  persistentKeepalive?: number;
  replaceAllowedIps?: boolean;
  allowedIps: AllowedIpUpdate[];
  rekeyInterval?: number;
  cipherSuite?: CipherSuite;
  postQuantum?: number;
}

function addPeer(peer: PeerDraft, key: string, value: Uint8Array): void {
  switch (key) {
    case 'update_only':
      onlyTrue(key, value);
      peer.updateOnly = true;
      return;
    case 'remove':
      onlyTrue(key, value);
      peer.remove = true;
      return;
    case 'preshared_key':
      wipe(peer.presharedKey);
      peer.presharedKey = hexKey(key, value);
      return;
    case 'endpoint':
      peer.endpoint = parseEndpoint(asciiText(value)) ?? invalid(key);
      return;
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = decimal(key, value, 0xffff);
      return;
    case 'replace_allowed_ips':
      onlyTrue(key, value);
      peer.replaceAllowedIps = true;
      peer.allowedIps = [];
      return;
    case 'allowed_ip':
      peer.allowedIps.push(allowedIp(key, asciiText(value)));
      return;
    case 'protocol_version':
      if (asciiText(value) !== '1') invalid(key);
      return;
    case 'rekey_interval_ms':
      peer.rekeyInterval = decimal(key, value, REKEY_AFTER_TIME);
      if (peer.rekeyInterval < MIN_REKEY_INTERVAL) invalid(key);
      return;
    case 'post_quantum_ms':
      peer.postQuantum = decimal(key, value, MAX_POST_QUANTUM_INTERVAL);
      if (peer.postQuantum !== 0 && peer.postQuantum < MIN_POST_QUANTUM_INTERVAL) invalid(key);
      return;
    case 'cipher_suite': {
      const name = asciiText(value);
      peer.cipherSuite = CIPHER_SUITES.find((suite) => suite === name) ?? invalid(key);
      return;
    }
    default:
      throw new UapiError(ERRNO.EINVAL, 'unknown peer key');
  }
}

function toUpdate(draft: PeerDraft): PeerUpdate {
  return draft.remove === true ? { publicKey: draft.publicKey, remove: true } : draft;
}

/** replace_peers removes all peers first: one that comes again is a new one, without its session and counters. */
function startingAfresh(peers: readonly PeerUpdate[]): PeerUpdate[] {
  const seen = new Set<string>();
  return peers.flatMap((peer) => {
    const id = keyId(peer.publicKey);
    if (seen.has(id)) return [peer];
    seen.add(id);
    return [{ publicKey: peer.publicKey, remove: true }, peer];
  });
}

function encodePeer(writer: LineWriter, peer: PeerUpdate): void {
  writer.hexLine('public_key', peer.publicKey);
  if (peer.remove === true) return writer.line('remove=true');
  if (peer.updateOnly === true) writer.line('update_only=true');
  if (peer.presharedKey !== undefined) writer.hexLine('preshared_key', peer.presharedKey);
  if (peer.endpoint !== undefined) writer.line(`endpoint=${formatEndpoint(peer.endpoint)}`);
  if (peer.persistentKeepalive !== undefined) {
    writer.line(`persistent_keepalive_interval=${peer.persistentKeepalive}`);
  }
  if (peer.rekeyInterval !== undefined) writer.line(`rekey_interval_ms=${peer.rekeyInterval}`);
  if (peer.cipherSuite !== undefined) writer.line(`cipher_suite=${peer.cipherSuite}`);
  if (peer.postQuantum !== undefined) writer.line(`post_quantum_ms=${peer.postQuantum}`);
  if (peer.replaceAllowedIps === true) writer.line('replace_allowed_ips=true');
  for (const allowed of peer.allowedIps ?? []) {
    writer.line(`allowed_ip=${allowed.remove === true ? '-' : ''}${formatPrefix(allowed)}`);
  }
}

function hexKey(key: string, value: Uint8Array): Uint8Array {
  return parseHexKey(value) ?? invalid(key);
}

function decimal(key: string, value: Uint8Array, maximum: number): number {
  const text = asciiText(value);
  const number = /^\d{1,20}$/.test(text) ? Number(text) : Number.NaN;
  return number <= maximum ? number : invalid(key);
}

function onlyTrue(key: string, value: Uint8Array): void {
  if (asciiText(value) !== 'true') invalid(key);
}

function allowedIp(key: string, text: string): AllowedIpUpdate {
  const remove = text.startsWith('-');
  const prefix = text.includes('/') ? parsePrefix(remove ? text.slice(1) : text) : undefined;
  if (prefix === undefined) return invalid(key);
  return remove ? { ...prefix, remove } : prefix;
}

function invalid(key: string): never {
  throw new UapiError(ERRNO.EINVAL, `invalid ${key}`);
}
