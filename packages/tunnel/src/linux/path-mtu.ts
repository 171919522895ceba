/** Asks the system how large packets to a destination may be, as far as it knows by now (ip(7), ipv6(7): IP_MTU, IPV6_MTU). */
import { addressOf, closeDescriptor, foreign } from './foreign.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const IPPROTO_IP = 0;
const IP_MTU = 14;
const IPPROTO_IPV6 = 41;
const IPV6_MTU = 24;
/** Any: nothing is sent there. */
const PORT = 9;
/** struct sockaddr_in and struct sockaddr_in6. */
const NAME_LENGTH = { 4: 16, 6: 28 } as const;

/** Undefined where there is no way to the destination, or no such question on this system. */
export function pathMtuTo(destination: Uint8Array): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const isV4 = destination.length === 4;
  let fd = -1;
  try {
    fd = foreign('int socket(int, int, int)')(isV4 ? AF_INET : AF_INET6, SOCK_DGRAM_CLOEXEC, 0);
    const nameLength = NAME_LENGTH[isV4 ? 4 : 6];
    const bytes = new Uint8Array(new ArrayBuffer(nameLength + 8));
    const view = new DataView(bytes.buffer);
    view.setUint16(0, isV4 ? AF_INET : AF_INET6, true);
    view.setUint16(2, PORT);
    bytes.set(destination, isV4 ? 4 : 8);
    const address = addressOf(bytes);
    if (foreign('int connect(int, uintptr_t, unsigned int)')(fd, address, nameLength) !== 0) return undefined;
    const [level, option] = isV4 ? [IPPROTO_IP, IP_MTU] : [IPPROTO_IPV6, IPV6_MTU];
    view.setUint32(nameLength + 4, 4, true);
    const ask = foreign('int getsockopt(int, int, int, uintptr_t, uintptr_t)');
    if (ask(fd, level, option, address + nameLength, address + nameLength + 4) !== 0) return undefined;
    return view.getUint32(nameLength, true);
  } catch {
    // Without the native module.
    return undefined;
  } finally {
    if (fd >= 0) closeDescriptor(fd);
  }
}
