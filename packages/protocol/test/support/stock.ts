/** The rules of the kernel and of wireguard-go for sessions, where ours differ. */
import type { Node } from '../../../../test/sim/node.ts';
import { insideOf } from './lab.ts';

/**
 * Lets `node` treat `other` as they would: one handshake at a time, so that answering forgets the own initiation; answering
 * ends `previous` too; and packets are sent on whatever session began last, wherever the other side sends.
 */
export function likeStock(node: Node, other: Node): void {
  const peer = insideOf(node, other);
  const { keypairs } = peer;
  const beginSession = peer.beginSession.bind(peer);
  peer.beginSession = (keys, entry, session, now) => {
    if (!session.isInitiator) {
      peer.discardPending();
      keypairs.previous?.wipe();
    }
    beginSession(keys, entry, session, now);
  };
  const confirm = keypairs.confirm.bind(keypairs);
  keypairs.confirm = (keypair, now) => keypair === keypairs.next && confirm(keypair, now);
  const sessionConfirmed = peer.sessionConfirmed.bind(peer);
  peer.sessionConfirmed = (now) => {
    const { pending } = peer;
    peer.pending = undefined;
    sessionConfirmed(now);
    peer.pending = pending;
  };
}
