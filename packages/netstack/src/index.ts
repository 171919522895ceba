export { type Endpoint, IpAddress, parseAddress } from './address.ts';
export type { DropCounters, DropReason } from './drops.ts';
export type { UnreachableReason } from './icmp.ts';
export type { EchoReply } from './icmp-input.ts';
export type { StackLimits } from './limits.ts';
export type { ReassemblyLimits } from './reassembly.ts';
export { PacketBatch, type PacketSink } from './sink.ts';
export { type ConnectOptions, Stack, type StackOptions, type StackStatus } from './stack.ts';
export { type ConnectionHandler, TcpConnection } from './tcp/connection.ts';
export { IncomingConnection, type Rejection } from './tcp/incoming.ts';
export type { IncomingHandler, TcpListener } from './tcp/listeners.ts';
export { type ConnectionError, type TcpOptions, type TcpState, UNREACHABLE_ERRORS } from './tcp/tcb.ts';
export {
  type DatagramHandler,
  UdpFlow,
  type UdpFlowHandler,
  type UdpRequest,
  UdpSocket,
  type UdpSocketOptions,
} from './udp.ts';
