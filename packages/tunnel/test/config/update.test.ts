import { describe, expect, it } from 'vitest';
import { parseKey } from '@sealane/protocol';
import { parseConfig } from '../../src/config/parse.ts';
import { peerEndpoints, ResolveError, resolveEndpoint, resolveEndpoints, toUpdate } from '../../src/config/update.ts';
import { formatEndpoint, parseEndpoint, parsePrefix } from '../../src/ip-text.ts';
import { CORPUS, KEYS, PRESHARED_KEY } from './corpus.ts';

describe('endpoints', () => {
  it('resolves literals and names to addresses with the port', async () => {
    expect((await resolveEndpoint('[2001:db8::1]:5')).map(formatEndpoint)).toEqual(['[2001:db8::1]:5']);
    const local = (await resolveEndpoint('localhost:51820')).map(formatEndpoint);
    expect(['127.0.0.1:51820', '[::1]:51820']).toEqual(expect.arrayContaining(local));
    expect(local).not.toEqual([]);
  });

  it('finds the interface of a link-local address when it is there', async () => {
    expect((await resolveEndpoint('[fe80::1%lo]:5'))[0]?.scopeId).toBeGreaterThan(0);
    await expect(resolveEndpoint('[fe80::1%no-such-link]:5')).rejects.toThrow('there is no such interface');
  });

  it('says which name has no address', async () => {
    await expect(resolveEndpoint('nowhere.invalid:51820')).rejects.toThrow(ResolveError);
    await expect(resolveEndpoint('nowhere.invalid:51820')).rejects.toThrow(
      'cannot resolve endpoint nowhere.invalid:51820: ',
    );
  });

  it('leaves a name out as long as the peer has another', async () => {
    const text = CORPUS['extensions behind the mark']!.replace('192.0.2.10:51820', 'nowhere.invalid:1');
    const config = parseConfig(text, 'f');
    const resolved = await resolveEndpoints(config);
    expect(peerEndpoints(config.peers[0]!, resolved).map(formatEndpoint)).toEqual([
      '192.0.2.11:51820',
      '[2001:db8::11]:51820',
    ]);
  });

  it('fails when a peer has no other', async () => {
    const text = CORPUS['phone, all traffic']!.replace('198.51.100.7', 'nowhere.invalid');
    await expect(resolveEndpoints(parseConfig(text, 'f'))).rejects.toThrow(ResolveError);
  });
});

describe('update', () => {
  it('sets everything that the file says', async () => {
    const config = parseConfig(CORPUS['extensions behind the mark']!, 'f');
    expect(toUpdate(config, await resolveEndpoints(config))).toEqual({
      privateKey: parseKey(KEYS.alice.private),
      fwmark: 0,
      replacePeers: true,
      peers: [
        {
          publicKey: parseKey(KEYS.bob.public),
          presharedKey: new Uint8Array(32),
          endpoint: parseEndpoint('192.0.2.10:51820'),
          persistentKeepalive: 0,
          replaceAllowedIps: true,
          allowedIps: [parsePrefix('10.4.0.0/16')],
          rekeyInterval: 30_000,
          cipherSuite: 'aes256gcm',
          postQuantum: 600_000,
        },
      ],
    });
  });

  it("gives the interface's interval to peers without one", async () => {
    const text = CORPUS['extensions behind the mark']!.replace('#@ RekeyInterval = 30\n', '');
    const config = parseConfig(text, 'f');
    expect(toUpdate(config, new Map()).peers?.[0]).toMatchObject({ rekeyInterval: 60_000 });
  });

  it('returns what a file does not say to its default', () => {
    const config = parseConfig(CORPUS['server with hooks']!, 'f');
    const update = toUpdate(config, new Map());
    expect(update).toMatchObject({ listenPort: 51_820, fwmark: 0 });
    expect(update.peers).toMatchObject([
      { presharedKey: new Uint8Array(32), rekeyInterval: 120_000, cipherSuite: 'chacha20poly1305', postQuantum: 0 },
      { presharedKey: parseKey(PRESHARED_KEY) },
    ]);
    expect(update.peers?.[0]).not.toHaveProperty('endpoint');
  });
});
