/** Tells the service manager how it stands (sd_notify(3)). */
import { addressOf, closeDescriptor, foreign } from './foreign.ts';

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const PATH_BYTES = 108;

/**
 * Sends a state such as `READY=1` to the socket that $NOTIFY_SOCKET names; false when there is none or it takes nothing.
 */
export function notifyServiceManager(
  state: string,
  socketName: string | undefined = process.env['NOTIFY_SOCKET'],
): boolean {
  if (process.platform !== 'linux' || socketName === undefined || !/^[/@]./.test(socketName)) return false;
  // '@' stands for the zero byte of a name that is in no file system (unix(7)).
  const name = new TextEncoder().encode(socketName.replace(/^@/, '\0'));
  if (name.length >= PATH_BYTES) return false;
  const address = new Uint8Array(new ArrayBuffer(2 + PATH_BYTES));
  address[0] = AF_UNIX;
  address.set(name, 2);
  const text = new TextEncoder().encode(state);
  const bytes = new Uint8Array(new ArrayBuffer(text.length));
  bytes.set(text);
  const fd = foreign('int socket(int, int, int)')(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return false;
  const length = 2 + name.length + (socketName.startsWith('/') ? 1 : 0);
  const sent = foreign('long sendto(int, uintptr_t, size_t, int, uintptr_t, unsigned int)')(
    fd,
    addressOf(bytes),
    bytes.length,
    MSG_NOSIGNAL,
    addressOf(address),
    length,
  );
  closeDescriptor(fd);
  return sent === bytes.length;
}
