import { readFileSync, readlinkSync } from 'node:fs';
import { addressOf, closeDescriptor, foreign } from './foreign.ts';

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

export interface NetworkNamespace {
  /** What it is called while it is there: the next one may have the same number. */
  readonly inode: string;
  /** The start of the system (random(4): boot_id). */
  readonly boot: string;
  /** No other one has it until the system starts again (SO_NETNS_COOKIE, Linux 5.14); `0` where the system does not tell. */
  readonly cookie: string;
}

/** The network namespace that this process is in; the same for all where there are none. */
export function networkNamespace(): NetworkNamespace {
  try {
    const inode = /\d+/.exec(readlinkSync('/proc/self/ns/net'))?.[0] ?? '0';
    return { inode, boot: readFileSync('/proc/sys/kernel/random/boot_id', 'ascii').trim(), cookie: readCookie() };
  } catch {
    return { inode: '0', boot: '0', cookie: '0' };
  }
}

/** True when a network namespace is known to be gone: the system started again since, or its number is now that of `here`. */
export function isGone({ inode, cookie, boot }: NetworkNamespace, here: NetworkNamespace): boolean {
  return boot !== here.boot || (inode === here.inode && cookie !== here.cookie);
}

function readCookie(): string {
  try {
    const fd = foreign('int socket(int, int, int)')(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
    if (fd < 0) return '0';
    const getsockopt = foreign('int getsockopt(int, int, int, uintptr_t, uintptr_t)');
    const bytes = new Uint8Array(new ArrayBuffer(16));
    const view = new DataView(bytes.buffer);
    view.setUint32(8, 8, true);
    const address = addressOf(bytes);
    const failed = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, address, address + 8) !== 0;
    closeDescriptor(fd);
    return failed ? '0' : String(view.getBigUint64(0, true));
  } catch {
    return '0';
  }
}
