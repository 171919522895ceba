import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { formatKey, generatePrivateKey, nobleCrypto, wipe } from '@sealane/protocol';
import { formatAddress } from '@sealane/tunnel';
import { RefusedError } from '../errors.ts';
import { print } from '../output/print.ts';
import { styleFor } from '../output/style.ts';
import { createFolder, stateFolder } from '../state/folder.ts';
import { createPrivateKey, readPrivateKey } from '../state/keys.ts';
import { whileChanging } from '../state/lock.ts';
import { serverAddress, type Network } from '../state/pool.ts';
import { writeRegistry } from '../state/registry-file.ts';

export interface InitOptions {
  readonly state: string;
  readonly endpoint: string;
  readonly pool: readonly Network[];
  readonly dns: readonly string[];
  readonly mtu: number;
}

/** Makes the state of a new server; refuses to touch one that is there. */
export async function init(options: InitOptions): Promise<void> {
  const folder = stateFolder(options.state);
  createFolder(folder);
  const kept = await whileChanging(folder, () => {
    if (existsSync(folder.registry))
      throw new RefusedError(`${folder.path} holds a server already and is left as it is`);
    const fresh = generatePrivateKey((length) => new Uint8Array(randomBytes(length)));
    const created = createPrivateKey(folder, fresh);
    wipe(fresh);
    // What was there must be usable before the folder becomes a server.
    wipe(readPrivateKey(folder));
    const { endpoint, dns, mtu } = options;
    const pool = options.pool.map(({ text }) => text);
    // The registry is what makes the folder a server: it comes last.
    writeRegistry(folder, { version: 1, revision: 0, server: { endpoint, pool, dns, mtu }, peers: [] });
    return !created;
  });
  const privateKey = readPrivateKey(folder);
  const publicKey = formatKey(nobleCrypto.publicKey(privateKey));
  wipe(privateKey);
  const style = styleFor(process.stdout);
  const addresses = options.pool.map((network) => formatAddress(serverAddress(network)));
  const lines = [
    `${style.green('made')} a server in ${folder.path}${kept ? ', with the private key that was there' : ''}`,
    `  public key  ${publicKey}`,
    `  endpoint    ${options.endpoint}`,
    `  address     ${addresses.join(', ')}`,
    `next: 'sealaned peer add NAME' for each client, then 'sealaned run'`,
  ];
  await print(lines.join('\n'));
}
