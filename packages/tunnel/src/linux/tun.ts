/** TUN interfaces: made, asked for their state, told their MTU (Documentation/networking/tuntap.rst, netdevice(7)). */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { errorCode } from '../os-error.ts';
import { addressOf, closeDescriptor, errno, errnoName, foreign } from './foreign.ts';

const TUNSETIFF = 0x4004_54ca;
const TUNGETIFF = 0x8004_54d2;
const TUNSETOFFLOAD = 0x4004_54d0;
const TUNGETDEVNETNS = 0x54e3;
const SIOCGIFFLAGS = 0x8913;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_TUN_EXCL = 0x8000;
const IFF_UP = 1;
const CLONE_NEWNET = 0x4000_0000;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const IFREQ_BYTES = 40;
const NAME_BYTES = 16;

/** TUN_F_*: what the kernel may leave to us (include/uapi/linux/if_tun.h). */
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;

/** Every read and write of a TUN made by `createTun` has this many bytes of virtio_net_hdr before the packet. */
export const VNET_HEADER = 10;

export interface LinkState {
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
}

export interface TunQueues {
  /** Non-blocking descriptors, one a queue, at least one. */
  readonly queues: readonly number[];
  readonly name: string;
  /** Somebody else made the interface. */
  readonly attached: boolean;
}

/**
 * Makes the interface, with as many queues as asked for: the kernel gives each flow to one of them. With `attach`, one that
 * exists and that no program has open is taken, with one queue. Throws an Error that says in one line what to do.
 */
export function createTun(name: string, queues = 1, attach = false): TunQueues {
  if (!/^[^\s/]{1,15}$/u.test(name) || name === '.' || name === '..') {
    throw new RangeError(`name must be 1 to 15 characters without spaces and slashes, not '${name}'`);
  }
  const flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  const made = openQueues(name, queues, queues === 1 ? flags : flags | IFF_MULTI_QUEUE);
  if (made !== undefined) return { ...made, attached: false };
  if (!attach) throw refusal(name, 'EEXIST');
  // Without IFF_MULTI_QUEUE the kernel lets nobody in beside another program.
  return { ...openQueues(name, 1, flags, false)!, attached: true };
}

/** Undefined when the interface exists already, unless it does not have to be `isNew`. */
function openQueues(
  name: string,
  queues: number,
  flags: number,
  isNew = true,
): Omit<TunQueues, 'attached'> | undefined {
  const opened: number[] = [];
  const request = new Request();
  request.name = name;
  try {
    for (let i = 0; i < queues; i++) {
      const isFirst = isNew && i === 0;
      const fd = openTunFile(name);
      opened.push(fd);
      request.view.setUint16(NAME_BYTES, isFirst ? flags | IFF_TUN_EXCL : flags, true);
      if (request.send(fd, TUNSETIFF) === 0) continue;
      const code = errnoName(errno());
      if (!isFirst || code !== 'EBUSY') throw refusal(name, code);
      closeSync(fd);
      return undefined;
    }
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
  return { queues: opened, name: request.name };
}

export interface Offloads {
  readonly tcp: boolean;
  readonly udp: boolean;
}

/** Asks for packets of many segments with unfinished checksums; says which kinds this kernel grants. */
export function enableOffloads(fd: number): Offloads {
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  if (ioctl(fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) === 0) return { tcp: true, udp: true };
  return { tcp: ioctl(fd, TUNSETOFFLOAD, tcp) === 0, udp: false };
}

/** Undoes `enableOffloads`: packets come one by one, whole. */
export function disableOffloads(fd: number): void {
  ioctl(fd, TUNSETOFFLOAD, 0);
}

/**
 * Follows one interface by asking. Netlink would not tell of an interface that was moved to another network namespace;
 * a socket made over there can be asked, as far as this process may enter it.
 */
export class TunLink {
  readonly #fd: number;
  #socket: number | undefined;
  #namespace: number | undefined;
  #last: LinkState | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The state now; undefined when the interface is gone. What cannot be asked stays as it was. */
  probe(): LinkState | undefined {
    const request = new Request();
    if (request.send(this.#fd, TUNGETIFF) !== 0) return undefined;
    this.#follow();
    const name = request.name;
    const before = this.#last ?? { name, up: false, mtu: 0 };
    const flags = this.#ask(name, SIOCGIFFLAGS);
    const mtu = this.#ask(name, SIOCGIFMTU);
    const up = flags === undefined ? before.up : (flags.getUint16(NAME_BYTES, true) & IFF_UP) !== 0;
    this.#last = { name, up, mtu: mtu?.getInt32(NAME_BYTES, true) ?? before.mtu };
    return this.#last;
  }

  /** Throws when the system refuses it. */
  setMtu(mtu: number): void {
    const state = this.probe();
    const request = new Request();
    request.name = state?.name ?? '';
    request.view.setInt32(NAME_BYTES, mtu, true);
    if (state === undefined || this.#socket === undefined || request.send(this.#socket, SIOCSIFMTU) !== 0) {
      throw new Error(`cannot set the MTU of ${state?.name ?? 'a deleted interface'} to ${mtu}: ${errnoName(errno())}`);
    }
  }

  close(): void {
    if (this.#socket !== undefined) closeDescriptor(this.#socket);
    this.#socket = undefined;
  }

  #ask(name: string, operation: number): DataView | undefined {
    if (this.#socket === undefined) return undefined;
    const request = new Request();
    request.name = name;
    return request.send(this.#socket, operation) === 0 ? request.view : undefined;
  }

  /** Keeps `#socket` in the namespace where the interface lives. */
  #follow(): void {
    const there = ioctl(this.#fd, TUNGETDEVNETNS, 0);
    if (there < 0) {
      this.#socket ??= controlSocket();
      return;
    }
    try {
      const namespace = fstatSync(there).ino;
      if (namespace === this.#namespace && this.#socket !== undefined) return;
      this.close();
      this.#socket = controlSocketIn(there, namespace);
      this.#namespace = namespace;
    } finally {
      closeDescriptor(there);
    }
  }
}

function controlSocket(): number | undefined {
  const fd = foreign('int socket(int, int, int)')(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  return fd < 0 ? undefined : fd;
}

/** A socket of another namespace: this thread, and only this one, enters it for the one call. */
function controlSocketIn(namespace: number, inode: number): number | undefined {
  const home = openSync('/proc/thread-self/ns/net', constants.O_RDONLY);
  try {
    if (fstatSync(home).ino === inode) return controlSocket();
    const setns = foreign('int setns(int, int)');
    if (setns(namespace, CLONE_NEWNET) !== 0) return undefined;
    const socket = controlSocket();
    if (setns(home, CLONE_NEWNET) !== 0)
      throw new Error(`cannot return to the network namespace: ${errnoName(errno())}`);
    return socket;
  } finally {
    closeSync(home);
  }
}

function ioctl(fd: number, operation: number, argument: number): number {
  return foreign('int ioctl(int, unsigned long, uintptr_t)')(fd, operation, argument);
}

/** struct ifreq. */
class Request {
  readonly #bytes = new Uint8Array(new ArrayBuffer(IFREQ_BYTES));
  readonly view = new DataView(this.#bytes.buffer);

  get name(): string {
    const end = this.#bytes.indexOf(0);
    return new TextDecoder().decode(this.#bytes.subarray(0, Math.min(end, NAME_BYTES)));
  }

  set name(name: string) {
    this.#bytes.fill(0, 0, NAME_BYTES);
    this.#bytes.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1));
  }

  send(fd: number, operation: number): number {
    return ioctl(fd, operation, addressOf(this.#bytes));
  }
}

function openTunFile(name: string): number {
  try {
    return openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw refusal(name, errorCode(error) ?? String(error), error);
  }
}

const WITHOUT = "; the userspace mode ('--userspace') and 'sealane ping' need no interface";

function refusal(name: string, code: string, cause?: unknown): Error {
  const because = cause === undefined ? { cause: new Error(code) } : { cause };
  switch (code) {
    case 'EPERM':
    case 'EACCES':
      return new Error(
        `no permission to create the TUN interface ${name}: it needs root or CAP_NET_ADMIN${WITHOUT}`,
        because,
      );
    case 'ENOENT':
    case 'ENODEV':
    case 'ENXIO':
      return new Error(`this system has no /dev/net/tun: load the kernel module 'tun'${WITHOUT}`, because);
    case 'EBUSY':
      return new Error(`the interface ${name} is in use by another program: choose another name or stop it`, because);
    case 'EEXIST':
      return new Error(`the interface ${name} exists already: remove it, or choose another name`, because);
    case 'EINVAL':
      return new Error(`${name} exists and is not a TUN interface of one queue: choose another name`, because);
    default:
      return new Error(`cannot create the TUN interface ${name}: ${code}`, because);
  }
}
