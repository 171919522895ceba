/**
 * The server's network without privileges: peers' connections and datagrams end in a stack of this process, which
 * speaks for them through ordinary sockets. A peer hears that it is connected, refused or out of reach only once the
 * destination has said so.
 */
import { openTransparentDevice, parseAddress, type StackDevice, type StackLimits } from '@sealane/tunnel';
import { Policy, type Rule } from './policy.ts';
import { carryConnection } from './tcp.ts';
import { carryFlow } from './udp.ts';

export interface GatewayOptions {
  /** The server's addresses with the length of their block, which holds the peers. */
  readonly addresses: readonly string[];
  readonly mtu: number;
  readonly allow?: readonly Rule[];
  readonly deny?: readonly Rule[];
  readonly limits?: Partial<GatewayLimits>;
  /** The peer that an address belongs to: the limits are a peer's, however many addresses it has. */
  readonly peerOf?: (address: string) => string | undefined;
}

export interface GatewayLimits extends StackLimits {
  /** How long a destination may take to answer, in milliseconds. */
  readonly connectMs: number;
  /** How long a UDP flow lives without a datagram, in milliseconds. */
  readonly udpIdleMs: number;
}

/** Each connection and each flow is a socket of this process too: the bounds stay below common limits for those. */
export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  maxConnections: 16_384,
  maxConnectionsPerSource: 2_048,
  maxHalfOpen: 2_048,
  maxHalfOpenPerSource: 256,
  maxTimeWait: 16_384,
  maxUdpFlows: 8_192,
  maxUdpFlowsPerSource: 1_024,
  maxBufferBytes: 256 << 20,
  maxBufferBytesPerSource: 32 << 20,
  connectMs: 30_000,
  udpIdleMs: 120_000,
};

/** The packet device to give to the server's tunnel; closing it ends every connection and flow. */
export function startUserspaceGateway(options: GatewayOptions): StackDevice {
  const { addresses, mtu, allow = [], deny = [], peerOf } = options;
  const limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
  const { connectMs, udpIdleMs, ...stackLimits } = limits;
  const networks = addresses.map((text) => {
    const [address = '', length = ''] = text.split('/');
    return { address: parseAddress(address)!, length: Number(length) };
  });
  const policy = new Policy({ allow, deny, peerNetworks: networks });
  const isOwn = new Set(addresses.map((text) => text.split('/')[0]!));
  const open = new Set<{ close(): void }>();
  const device = openTransparentDevice({
    name: 'userspace',
    mtu,
    addresses: networks.map(({ address }) => address),
    limits: stackLimits,
    ...(peerOf !== undefined && { ownerOf: peerOf }),
    onConnection: (request) => {
      if (policy.allows(request.address, request.port)) void carryConnection(request, connectMs, open);
      else request.reject(isOwn.has(request.address) ? 'reset' : 'prohibited');
    },
    onFlow: (request) => {
      if (policy.allows(request.address, request.port)) carryFlow(request, udpIdleMs, open);
      else request.reject(isOwn.has(request.address) ? 'port-unreachable' : 'prohibited');
    },
  });
  device.onClose = () => {
    for (const entry of open) entry.close();
  };
  return device;
}
