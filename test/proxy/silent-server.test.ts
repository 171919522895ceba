/** What `sealane proxy --stdio` says when it cannot bring anybody there, as a process: what ssh's user reads. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import { describe, expect, it } from 'vitest';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();

/** A configuration that leads 127.91.0.0/24 to a server at `endpoint`. */
function configTo(endpoint: string): string {
  const [own, other] = [1, 2].map(() => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))));
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  return [
    '[Interface]',
    `PrivateKey = ${base64(own!)}`,
    'Address = 127.91.0.2/32',
    'DNS = 127.91.0.1',
    '[Peer]',
    `PublicKey = ${base64(nobleCrypto.publicKey(other!))}`,
    'AllowedIPs = 127.91.0.0/24',
    `Endpoint = ${endpoint}`,
    '',
  ].join('\n');
}

describe.skipIf(lacking !== undefined)(`--stdio (${lacking ?? 'as a process'})`, () => {
  it(
    'names a server that does not answer, and a target that the tunnel does not lead to',
    { timeout: 120_000 },
    async () => {
      const silent = createSocket('udp4').bind(0, '127.0.0.1');
      await once(silent, 'listening');
      const endpoint = `127.0.0.1:${silent.address().port}`;
      await using world = await RootlessWorld.withConfig(configTo(endpoint));
      const [address, name, elsewhere] = await Promise.all(
        ['127.91.0.1:22', 'db.test:22', '127.92.0.1:22'].map((target) =>
          world.sealane('proxy', world.config, '--stdio', target),
        ),
      );
      const down = `sealane: the tunnel has no session: ${endpoint} does not answer the handshake\n`;
      expect([address!.stderr, address!.code, address!.stdout]).toEqual([down, 3, '']);
      expect([name!.stderr, name!.code]).toEqual([down, 3]);
      const notThere = 'sealane: 127.92.0.1:22: 127.92.0.1 is not in the AllowedIPs of any peer\n';
      expect([elsewhere!.stderr, elsewhere!.code]).toEqual([notThere, 1]);
      silent.close();
    },
  );
});
