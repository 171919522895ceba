/** The sockets of a lane, of both address families on one port; with several lanes each has its own, in groups that steer. */
import { allowGroup, steerByReceiver } from '../linux/reuseport.ts';
import { LinuxUdp, type SharedSocket } from '../linux/udp.ts';

const PORT_ATTEMPTS = 32;

export interface Sockets {
  readonly port: number;
  readonly udp4: LinuxUdp | undefined;
  readonly udp6: LinuxUdp | undefined;
  /** Those of the other lanes, which only use them. */
  readonly others: readonly Omit<Sockets, 'others'>[];
}

/** What another lane's thread is told of its sockets. */
export interface LaneSockets {
  readonly port: number;
  readonly udp4: SharedSocket | undefined;
  readonly udp6: SharedSocket | undefined;
}

/** Port 0 takes one that is free in both families. */
export function openSockets(port: number, mark: number, lanes: number): Sockets {
  for (let attempt = 1; ; attempt++) {
    const udp4 = LinuxUdp.open({ family: 'ipv4', port, mark });
    let udp6: LinuxUdp | undefined;
    const joined: LinuxUdp[] = [];
    try {
      udp6 = LinuxUdp.open({ family: 'ipv6', port: udp4?.port ?? port, mark });
      const chosen = udp4?.port ?? udp6?.port;
      if (chosen === undefined) throw new Error('this host has neither IPv4 nor IPv6: no UDP socket can be opened');
      const join = (first: LinuxUdp | undefined): readonly LinuxUdp[] => joinGroup(first, mark, lanes, joined);
      const [others4, others6] = [join(udp4), join(udp6)];
      const others = Array.from({ length: lanes - 1 }, (_, i) => ({
        port: chosen,
        udp4: others4[i],
        udp6: others6[i],
      }));
      return { port: chosen, udp4, udp6, others };
    } catch (error) {
      for (const socket of [udp4, udp6, ...joined]) socket?.close();
      const taken = error instanceof Error && error.cause instanceof Error && error.cause.message === 'EADDRINUSE';
      if (!(port === 0 && udp4 !== undefined && taken && attempt < PORT_ATTEMPTS)) throw error;
    }
  }
}

/** All of a lane's own and the others' sockets. */
export function allSockets(sockets: Sockets | undefined): readonly LinuxUdp[] {
  if (sockets === undefined) return [];
  return [sockets, ...sockets.others]
    .flatMap(({ udp4, udp6 }) => [udp4, udp6])
    .filter((socket) => socket !== undefined);
}

export function closeSockets(sockets: Sockets | undefined): void {
  for (const socket of allSockets(sockets)) socket.close();
}

/**
 * Sockets for the other lanes, in the order of their numbers. The first one was bound alone, so that a port that another program has
 * is noticed.
 */
function joinGroup(first: LinuxUdp | undefined, mark: number, lanes: number, joined: LinuxUdp[]): readonly LinuxUdp[] {
  if (first === undefined || lanes === 1) return [];
  const { family, port, fd } = first;
  if (!allowGroup(fd)) throw new Error('this system has no socket groups (SO_REUSEPORT), which several lanes need');
  const group: LinuxUdp[] = [];
  for (let lane = 1; lane < lanes; lane++) {
    const socket = LinuxUdp.open({ family, port, mark, joinsGroup: true });
    if (socket === undefined) throw new Error('a socket cannot be opened again: the address family went away');
    group.push(socket);
    joined.push(socket);
  }
  if (!steerByReceiver(fd, lanes)) throw new Error('this system refuses to steer a group of sockets');
  return group;
}
