/** docs/configuration.md against the reader: its example, and what its table says of each key. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { fieldNamed } from '../../src/config/fields.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { formatAddress } from '../../src/ip-text.ts';
import { KEYS } from './corpus.ts';

const page = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8');
const rows = [...page.matchAll(/^\| `(\w+)` \| (.*?) \|/gm)];
const example = /```ini\n([^]*?)```/.exec(page)![1]!;

const peerWith = (line: string): string =>
  `[Interface]\nPrivateKey = ${KEYS.alice.private}\n[Peer]\nPublicKey = ${KEYS.bob.public}\n${line}\n`;

describe('the reference of configuration files', () => {
  it('has an example that is read as it says', () => {
    const text = example.replace('YOUR-PRIVATE-KEY', KEYS.alice.private).replace('SERVER-PUBLIC-KEY', KEYS.bob.public);
    const config = parseConfig(text, 'wg0.conf');
    expect(config.interface.rekeyInterval).toBe(60);
    expect(config.peers[0]).toMatchObject({
      endpoints: ['vpn.example.org:51820', 'vpn2.example.org:51820', '[2001:db8::1]:51820'],
      cipher: 'aes256gcm',
      postQuantum: 3_600,
      name: 'office',
    });
    expect(config.peers[0]!.gateways!.map(formatAddress)).toEqual(['10.7.0.1']);
    // Behind the mark, and without it, the keys mean the same; only Endpoint needs it.
    const plain = text.replaceAll(/^#@ (?!Endpoint)/gm, '');
    expect(parseConfig(plain, 'wg0.conf')).toEqual(config);
  });

  it('names every key that wg does not have, with its sections', () => {
    expect(rows.map(([, name]) => name)).toEqual([
      'RekeyInterval',
      'Endpoint',
      'Cipher',
      'PostQuantum',
      'Name',
      'Gateway',
    ]);
    for (const [, name, sections] of rows) {
      const field = fieldNamed(name!)!;
      expect(field.extension, name).toBe(true);
      expect(sections, name).toBe(field.sections.map((section) => `\`[${section}]\``).join(', '));
    }
  });

  it.each([
    ['RekeyInterval = 10', 'RekeyInterval = 9'],
    ['RekeyInterval = 120', 'RekeyInterval = 121'],
    ['Cipher = chacha20poly1305', 'Cipher = aes128gcm'],
    ['PostQuantum = 10', 'PostQuantum = 9'],
    ['PostQuantum = 86400', 'PostQuantum = 86401'],
    [`Name = ${'n'.repeat(64)}`, `Name = ${'n'.repeat(65)}`],
  ])('gives the bounds as they are: %s', (good, bad) => {
    expect(() => parseConfig(peerWith(good), 'wg0.conf')).not.toThrow();
    expect(() => parseConfig(peerWith(bad), 'wg0.conf')).toThrow(/^wg0\.conf:5: /);
  });
});
