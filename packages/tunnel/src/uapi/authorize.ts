import type { Socket } from 'node:net';
import { peerCredentials } from '../linux/peer-credentials.ts';

/**
 * True when our own user or root is at the other end, as the kernel says it (SO_PEERCRED). Where it cannot be asked the
 * modes of socket and folder have to do: they let nobody else connect in the first place.
 */
export function mayControl(socket: Socket): boolean {
  const descriptor = process.platform === 'linux' ? descriptorOf(socket) : undefined;
  if (descriptor === undefined) return true;
  const user = userBehind(descriptor);
  return user === undefined || user === 0 || user === process.geteuid?.();
}

function userBehind(descriptor: number): number | undefined {
  try {
    return peerCredentials(descriptor)?.userId;
  } catch {
    return undefined;
  }
}

/** Node has no public name for it, and newer versions no name at all. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = '_handle' in socket ? socket._handle : undefined;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
