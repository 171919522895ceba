import type { CipherSuite } from '@sealane/protocol';

/** What a peer needs to reach the server, as a wg-quick file. */
export interface ClientConfig {
  readonly name: string;
  /** base64; absent when the peer made its own key. */
  readonly privateKey?: string;
  readonly addresses: readonly string[];
  readonly dns: readonly string[];
  readonly mtu: number;
  readonly serverPublicKey: string;
  readonly presharedKey?: string;
  readonly allowedIps: readonly string[];
  /** The server's own addresses inside the tunnel. */
  readonly gateways: readonly string[];
  readonly endpoint: string;
  /** Seconds; 0 is off. */
  readonly keepalive: number;
  /** The server takes part in the post-quantum exchange with this peer. */
  readonly postQuantum: boolean;
  readonly cipher: CipherSuite;
}

/** Stands where a private key belongs that only the peer knows; no program takes it for a key. */
export const PRIVATE_KEY_PLACEHOLDER = 'REPLACE-WITH-YOUR-PRIVATE-KEY';

export function formatClientConfig(config: ClientConfig): string {
  const lines = [
    `# ${config.name}`,
    '[Interface]',
    `PrivateKey = ${config.privateKey ?? PRIVATE_KEY_PLACEHOLDER}`,
    `Address = ${config.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`).join(', ')}`,
    ...(config.dns.length > 0 ? [`DNS = ${config.dns.join(', ')}`] : []),
    `MTU = ${config.mtu}`,
    '',
    '[Peer]',
    `PublicKey = ${config.serverPublicKey}`,
    ...(config.presharedKey === undefined ? [] : [`PresharedKey = ${config.presharedKey}`]),
    // What stands behind #@ is a comment to other programs.
    `#@ Gateway = ${config.gateways.join(', ')}`,
    `AllowedIPs = ${config.allowedIps.join(', ')}`,
    `Endpoint = ${config.endpoint}`,
    ...(config.keepalive > 0 ? [`PersistentKeepalive = ${config.keepalive}`] : []),
    ...(config.cipher === 'chacha20poly1305' ? [] : [`#@ Cipher = ${config.cipher}`]),
    ...(config.postQuantum ? ['#@ PostQuantum = yes'] : []),
  ];
  return `${lines.join('\n')}\n`;
}
