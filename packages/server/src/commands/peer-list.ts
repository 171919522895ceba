import { peerTable, peerViews } from '../output/peers.ts';
import { print, printJson } from '../output/print.ts';
import { styleFor } from '../output/style.ts';
import { stateFolder } from '../state/folder.ts';
import { readRegistry } from '../state/registry-file.ts';
import { liveStatus } from '../running/live.ts';

export async function peerList(options: { readonly state: string; readonly json: boolean }): Promise<void> {
  const folder = stateFolder(options.state);
  const registry = readRegistry(folder);
  const peers = peerViews(registry.peers, await liveStatus(folder));
  await (options.json ? printJson(peers) : print(peerTable(peers, Date.now(), styleFor(process.stdout))));
}
