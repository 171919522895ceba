import { RefusedError } from '../errors.ts';
import { peerCard, peerViews } from '../output/peers.ts';
import { print, printJson } from '../output/print.ts';
import { styleFor } from '../output/style.ts';
import { stateFolder } from '../state/folder.ts';
import { peerNamed, readRegistry } from '../state/registry-file.ts';
import { liveStatus } from '../running/live.ts';

export async function peerShow(
  name: string,
  options: { readonly state: string; readonly json: boolean },
): Promise<void> {
  const folder = stateFolder(options.state);
  const peer = peerNamed(readRegistry(folder), name);
  if (peer === undefined) throw new RefusedError(`there is no peer ${name}`);
  const [view] = peerViews([peer], await liveStatus(folder));
  await (options.json ? printJson(view) : print(peerCard(view!, Date.now(), styleFor(process.stdout))));
}
