import type { CipherSuite } from '@sealane/protocol';
import { InputError, RefusedError } from '../errors.ts';
import { print } from '../output/print.ts';
import { stateFolder } from '../state/folder.ts';
import { whileChanging } from '../state/lock.ts';
import { peerNamed, readRegistry, sealingOf, writeRegistry } from '../state/registry-file.ts';
import { informServer } from '../running/live.ts';

export interface PeerSetOptions {
  readonly state: string;
  readonly cipher?: CipherSuite;
  readonly postQuantum?: boolean;
  readonly forgetTimestamp?: true;
}

/**
 * Changes what both ends have to agree on, or makes the server start anew with the peer, tells the running server, and says what
 * the client's file needs.
 */
export async function peerSet(name: string, { state, ...wanted }: PeerSetOptions): Promise<void> {
  if (Object.keys(wanted).length === 0) {
    throw new InputError('nothing to change: add --cipher, --post-quantum, --no-post-quantum or --forget-timestamp');
  }
  const folder = stateFolder(state);
  await whileChanging(folder, () => {
    const known = readRegistry(folder);
    const peer = peerNamed(known, name);
    if (peer === undefined) throw new RefusedError(`there is no peer ${name}`);
    const { cipher = 'chacha20poly1305', postQuantum = false, ...rest } = peer;
    const changed = {
      ...rest,
      ...sealingOf(wanted.cipher ?? cipher, wanted.postQuantum ?? postQuantum),
      ...(wanted.forgetTimestamp === true && { forgotten: new Date().toISOString() }),
    };
    writeRegistry(folder, { ...known, peers: known.peers.map((one) => (one === peer ? changed : one)) });
  });
  const live = await informServer(folder, `${name} is changed`);
  await print([`changed ${name}${live ? ': the running server knows' : ''}`, ...clientNeeds(wanted)].join('\n'));
}

function clientNeeds({ cipher, postQuantum }: Omit<PeerSetOptions, 'state'>): readonly string[] {
  const where = "[Peer] of its client's file";
  return [
    ...(cipher === undefined
      ? []
      : cipher === 'chacha20poly1305'
        ? [`${where} may have no Cipher line now: without it there is no session`]
        : [`${where} needs '#@ Cipher = ${cipher}' now: without it there is no session`]),
    ...(postQuantum === true ? [`${where} needs '#@ PostQuantum = yes' now: without it sessions are not hedged`] : []),
    ...(postQuantum === false ? [`${where} may keep 'PostQuantum': sessions are not hedged`] : []),
  ];
}
