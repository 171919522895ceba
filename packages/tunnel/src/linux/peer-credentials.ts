import { addressOf, foreign } from './foreign.ts';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** A struct ucred and the length of it. */
const bytes = new Uint8Array(new ArrayBuffer(16));
const view = new DataView(bytes.buffer);

export interface PeerCredentials {
  readonly processId: number;
  readonly userId: number;
  readonly groupId: number;
}

/** Who is at the other end of a connected Unix socket (SO_PEERCRED, unix(7)); undefined when the system does not say. */
export function peerCredentials(fd: number): PeerCredentials | undefined {
  const getsockopt = foreign('int getsockopt(int, int, int, uintptr_t, uintptr_t)');
  view.setUint32(12, 12, true);
  const address = addressOf(bytes);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, address, address + 12) !== 0) return undefined;
  return {
    processId: view.getInt32(0, true),
    userId: view.getUint32(4, true),
    groupId: view.getUint32(8, true),
  };
}
