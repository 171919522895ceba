/** Writes a configuration so that wg-quick reads it too: what only Sealane knows stands behind `#@ `. */
import { formatKey, isZeroKey, POST_QUANTUM_INTERVAL } from '@sealane/protocol';
import { formatAddress, formatPrefix } from '../ip-text.ts';
import { EXTENSION_MARK } from './fields.ts';
import type { InterfaceConfig, PeerConfig, TunnelConfig } from './model.ts';

/** The file's text, secrets included, always in the same order; RangeError for a hook or name that no line can hold. */
export function formatConfig(config: TunnelConfig): string {
  return [interfaceLines(config.interface), ...config.peers.map(peerLines)]
    .map((lines) => `${lines.join('\n')}\n`)
    .join('\n');
}

function interfaceLines(own: InterfaceConfig): string[] {
  const { servers, search } = own.dns;
  return [
    '[Interface]',
    ...pair('PrivateKey', isZeroKey(own.privateKey) ? undefined : formatKey(own.privateKey)),
    ...list('Address', own.addresses.map(formatPrefix)),
    ...list('DNS', [...servers.map(formatAddress), ...search]),
    ...pair('MTU', own.mtu),
    ...pair('ListenPort', own.listenPort),
    ...pair('FwMark', own.fwmark === undefined ? undefined : `0x${own.fwmark.toString(16)}`),
    ...pair('Table', own.table === 'auto' ? undefined : own.table),
    ...own.preUp.flatMap(({ command }) => pair('PreUp', command)),
    ...own.postUp.flatMap(({ command }) => pair('PostUp', command)),
    ...own.preDown.flatMap(({ command }) => pair('PreDown', command)),
    ...own.postDown.flatMap(({ command }) => pair('PostDown', command)),
    ...pair('SaveConfig', own.saveConfig ? 'true' : undefined),
    ...extension('RekeyInterval', own.rekeyInterval),
  ];
}

function peerLines(peer: PeerConfig): string[] {
  const [endpoint, ...further] = peer.endpoints;
  return [
    '[Peer]',
    ...extension('Name', peer.name),
    ...pair('PublicKey', formatKey(peer.publicKey)),
    ...pair('PresharedKey', peer.presharedKey === undefined ? undefined : formatKey(peer.presharedKey)),
    ...extension('Gateway', peer.gateways?.map(formatAddress).join(', ')),
    ...list('AllowedIPs', peer.allowedIps.map(formatPrefix)),
    ...pair('Endpoint', endpoint),
    ...extension('Endpoint', further.length === 0 ? undefined : further.join(', ')),
    ...pair('PersistentKeepalive', peer.persistentKeepalive),
    ...extension('RekeyInterval', peer.rekeyInterval),
    ...extension('Cipher', peer.cipher),
    ...extension('PostQuantum', peer.postQuantum === undefined ? undefined : postQuantumText(peer.postQuantum)),
  ];
}

function postQuantumText(seconds: number): string | number {
  if (seconds === 0) return 'no';
  return seconds * 1_000 === POST_QUANTUM_INTERVAL ? 'yes' : seconds;
}

function pair(key: string, value: string | number | undefined): string[] {
  if (value === undefined) return [];
  const text = String(value);
  // oxlint-disable-next-line no-control-regex -- what the reader refuses or would cut off must not be written
  if (/[\u0000-\u0008\u000a-\u001f\u007f#]/.test(text) || text !== text.trim()) {
    throw new RangeError(`${key}: a line cannot hold this value`);
  }
  return [`${key} = ${text}`];
}

function list(key: string, values: readonly string[]): string[] {
  return values.length === 0 ? [] : pair(key, values.join(', '));
}

function extension(key: string, value: string | number | undefined): string[] {
  return pair(key, value).map((line) => EXTENSION_MARK + line);
}
