import { formatKey } from '@sealane/protocol';
import { formatPrefix, parseConfig } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { formatClientConfig, PRIVATE_KEY_PLACEHOLDER, type ClientConfig } from '../src/output/client-config.ts';

const key = (n: number): string => formatKey(new Uint8Array(32).fill(n));

const CONFIG: ClientConfig = {
  name: 'alice',
  privateKey: key(0x48),
  addresses: ['10.7.0.2', 'fd07::2'],
  dns: ['10.7.0.1', 'example.org'],
  mtu: 1_420,
  serverPublicKey: key(2),
  presharedKey: key(3),
  allowedIps: ['10.7.0.0/24', 'fd07::/64'],
  gateways: ['10.7.0.1', 'fd07::1'],
  endpoint: 'vpn.example.org:51820',
  keepalive: 25,
  postQuantum: true,
  cipher: 'aes256gcm',
};

describe('the configuration of a client', () => {
  it('is a wg-quick file', () => {
    expect(formatClientConfig(CONFIG).split('\n')).toEqual([
      '# alice',
      '[Interface]',
      `PrivateKey = ${key(0x48)}`,
      'Address = 10.7.0.2/32, fd07::2/128',
      'DNS = 10.7.0.1, example.org',
      'MTU = 1420',
      '',
      '[Peer]',
      `PublicKey = ${key(2)}`,
      `PresharedKey = ${key(3)}`,
      '#@ Gateway = 10.7.0.1, fd07::1',
      'AllowedIPs = 10.7.0.0/24, fd07::/64',
      'Endpoint = vpn.example.org:51820',
      'PersistentKeepalive = 25',
      '#@ Cipher = aes256gcm',
      '#@ PostQuantum = yes',
      '',
    ]);
  });

  it('reads back as what it says', () => {
    const parsed = parseConfig(formatClientConfig(CONFIG), 'alice.conf');
    expect(formatKey(parsed.peers[0]!.publicKey)).toBe(CONFIG.serverPublicKey);
    expect(parsed.peers[0]!.postQuantum).toBe(3_600);
    expect(parsed.peers[0]!.cipher).toBe('aes256gcm');
    expect(parsed.peers[0]!.allowedIps?.map(formatPrefix)).toEqual(CONFIG.allowedIps);
  });

  it('leaves out what is not set', () => {
    const { presharedKey: _, ...rest } = CONFIG;
    const text = formatClientConfig({ ...rest, dns: [], keepalive: 0, postQuantum: false, cipher: 'chacha20poly1305' });
    expect(text).not.toMatch(/PresharedKey|DNS|PersistentKeepalive|PostQuantum|Cipher/);
  });

  it('has a line to fill in when only the peer knows its key, and is no valid file before', () => {
    const { privateKey: _, ...rest } = CONFIG;
    const text = formatClientConfig(rest);
    expect(text).toContain(`PrivateKey = ${PRIVATE_KEY_PLACEHOLDER}\n`);
    expect(() => parseConfig(text, 'alice.conf')).toThrow(/alice\.conf.*3.*PrivateKey/);
  });
});
