import { RefusedError } from '../errors.ts';
import { print } from '../output/print.ts';
import { stateFolder } from '../state/folder.ts';
import { whileChanging } from '../state/lock.ts';
import { peerNamed, readRegistry, writeRegistry } from '../state/registry-file.ts';
import { informServer } from '../running/live.ts';

/** Removes a peer; the running server drops its session at once. */
export async function peerRemove(name: string, options: { readonly state: string }): Promise<void> {
  const folder = stateFolder(options.state);
  await whileChanging(folder, () => {
    const registry = readRegistry(folder);
    if (peerNamed(registry, name) === undefined) throw new RefusedError(`there is no peer ${name}`);
    writeRegistry(folder, { ...registry, peers: registry.peers.filter((peer) => peer.name !== name) });
  });
  const live = await informServer(folder, `${name} is removed`);
  await print(`removed ${name}${live ? ': the running server serves it no more' : ''}`);
}
