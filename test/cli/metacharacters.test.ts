/** Shell metacharacters in every field of a file, through the whole command as root: nothing runs what they say. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { client, runSealane, server, up } from './client-lab.ts';
import { Lab, missing, until } from '../support/lab.ts';

const reason = missing('bash');

describe.skipIf(reason !== undefined)(`metacharacters (${reason ?? 'in a namespace'})`, { timeout: 240_000 }, () => {
  it('reach no shell from any field, name or argument', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const marker = join(lab.folder, 'marker');
    const form = `$(touch ${marker})\`touch ${marker}\`; touch ${marker} #`;
    const valid = {
      PrivateKey: client.privateText,
      Address: '10.88.0.2/32',
      DNS: '10.88.0.1',
      MTU: '1400',
      Table: 'off',
      FwMark: '7',
      ListenPort: '0',
      SaveConfig: 'false',
      RekeyInterval: '60',
    };
    const ofPeer = {
      PublicKey: server.publicText,
      PresharedKey: client.privateText,
      AllowedIPs: '10.88.0.0/24',
      Endpoint: '127.0.0.1:51888',
      PersistentKeepalive: '25',
      '#@ Endpoint': '127.0.0.1:51889',
      Cipher: 'aes256gcm',
      PostQuantum: 'yes',
      RekeyInterval: '30',
      Name: 'office',
      Gateway: '10.88.0.1',
    };
    const section = (fields: Readonly<Record<string, string>>): string =>
      Object.entries(fields)
        .map(([key, value]) => `${key} = ${value}\n`)
        .join('');
    const texts = [
      ...Object.entries(valid).map(([key, value]) => [{ ...valid, [key]: value + form }, ofPeer] as const),
      ...Object.entries(ofPeer).map(([key, value]) => [valid, { ...ofPeer, [key]: value + form }] as const),
    ];
    for (const [i, [own, peer]] of texts.entries()) {
      const file = await lab.file(`wg${i}.conf`, `[Interface]\n${section(own)}[Peer]\n${section(peer)}`);
      const outcome = await runSealane(host, 'up', file);
      expect(outcome.code, `${section(own)}${section(peer)}${outcome.stderr}`).toBe(2);
    }
    const plain = await lab.file('plain.conf', `[Interface]\n${section(valid)}[Peer]\n${section(ofPeer)}`);
    for (const words of [
      ['up', form],
      ['up', plain, '--name', form],
      ['up', plain, '--user', form],
      ['down', form],
      ['sync', form, plain],
      ['device', form],
    ]) {
      expect((await runSealane(host, ...words)).code, words.join(' ')).not.toBe(0);
    }
    // Of all fields only a name may have such characters: it is for messages.
    const name = lab.interfaceName('a');
    const text = `[Interface]\n${section(valid)}[Peer]\n${section({ ...ofPeer, Name: `$(touch ${marker})` })}`;
    const named = await up(lab, host, name, text, '--no-dns');
    await until('a message of it', () => named.stderr.includes(`$(touch ${marker}) is silent`), 90_000);
    expect(await named.stop()).toBe(0);
    expect(existsSync(marker)).toBe(false);
    // The marker does appear where a shell is meant: the test can fail.
    const hooked = await lab.file('hook.conf', `[Interface]\n${section(valid)}PreUp = touch ${marker}; false\n`);
    await runSealane(host, 'up', hooked, '--no-dns');
    expect(existsSync(marker)).toBe(true);
  });
});
