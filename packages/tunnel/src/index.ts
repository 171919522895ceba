/** A running tunnel: packet loops, devices, configuration files and the control socket. */
export { ConfigError, type ConfigProblem } from './config/error.ts';
export { loadConfig, readConfigFile, type ReadConfigOptions } from './config/file.ts';
export { formatConfig } from './config/format.ts';
export type { DnsConfig, HookCommand, InterfaceConfig, PeerConfig, TunnelConfig } from './config/model.ts';
export { parseConfig } from './config/parse.ts';
export {
  peerEndpoints,
  peerLabel,
  ResolveError,
  resolveEndpoint,
  type ResolvedEndpoints,
  resolveEndpoints,
  toUpdate,
} from './config/update.ts';
export { CRYPTO_KINDS, type CryptoKind, selectCrypto } from './crypto/select.ts';
export { EchoClient } from './devices/echo-client.ts';
export type { BulkOptions, BulkResult, EchoClientOptions, PingOptions } from './devices/echo-client.ts';
export { EchoHost } from './devices/echo-host.ts';
export type { EchoHostOptions } from './devices/echo-host.ts';
export { memoryPair } from './devices/memory.ts';
export { StackDevice, type StackDeviceOptions } from './devices/netstack.ts';
export type { MemoryPairOptions } from './devices/memory.ts';
export { MOST_QUEUES, openTun, type TunDevice, type TunOptions } from './devices/tun.ts';
export {
  formatAddress,
  formatEndpoint,
  formatPrefix,
  maskPrefix,
  parseAddress,
  parseEndpoint,
  parsePort,
  parsePrefix,
} from './ip-text.ts';
export { keepHeapSmall } from './heap.ts';
export { defaultLanes } from './lane/default-lanes.ts';
export { BECOMES_USER, CAPABILITY, confine, forbidCoreDumps, type HandedOn, privileges } from './linux/confine.ts';
export { type FirewallState, watchFirewall } from './linux/firewall-news.ts';
export { type FileLock, lockFile } from './linux/lock.ts';
export { isGone, type NetworkNamespace, networkNamespace } from './linux/namespace.ts';
export { notifyServiceManager } from './linux/notify.ts';
export { keepToOurselves, letWait, openPipe, type Pipe } from './linux/pipe.ts';
export { type NftProgram, OwnTable } from './linux/own-table.ts';
export { pathMtuTo } from './linux/path-mtu.ts';
export { type PeerCredentials, peerCredentials } from './linux/peer-credentials.ts';
export { interfaceOfTable, tableName } from './linux/table-name.ts';
export { findUser, type UserIds } from './linux/user.ts';
export { DeviceClosedError } from './model.ts';
export type {
  Lane,
  LaneKind,
  LaneOptions,
  LaneStatus,
  LaneTraffic,
  PacketDevice,
  PacketDeviceNotices,
  TunnelEvent,
  TunnelUpdate,
} from './model.ts';
export { HttpAgent, HttpsAgent, undiciConnector, type UndiciConnector } from './net/agents.ts';
export { DnsResolver, type DnsResolverOptions } from './net/dns-resolver.ts';
export { NotRoutedError, unreachableReason } from './net/errors.ts';
export { hostNetwork } from './net/host-network.ts';
export { connected, openConnection, type OpenConnectionOptions } from './net/open-connection.ts';
export { abortConnection, joinConnections, relayNetwork } from './net/relay.ts';
export { openTransparentDevice } from './net/transparent.ts';
export type {
  ConnectionRequest,
  Flow,
  FlowHandler,
  FlowRequest,
  Rejection,
  StackLimits,
  TransparentOptions,
  UnreachableReason,
} from './net/transparent.ts';
export type { TunnelDatagramSocket } from './net/tunnel-datagram.ts';
export { TunnelNetwork, type TunnelNetworkOptions } from './net/tunnel-network.ts';
export type { TunnelServer } from './net/tunnel-server.ts';
export type { TunnelSocket } from './net/tunnel-socket.ts';
export type {
  ConnectOptions,
  DatagramSocket,
  ListenOptions,
  NetworkStack,
  RemoteAddress,
  ServerOptions,
  SocketAddress,
  StreamServer,
  StreamSocket,
} from './net/types.ts';
export type { UserspaceOptions, UserspaceTunnel } from './net/userspace-tunnel.ts';
export { openTunnel } from './open-tunnel.ts';
export { giveToFolderOwner } from './owner.ts';
export { TimestampFile } from './timestamp-file.ts';
export { Tunnel } from './tunnel.ts';
export type { TunnelEventOf, TunnelEventType, TunnelListener, TunnelOptions, TunnelStatus } from './tunnel.ts';
export {
  ControlError,
  readStatus,
  requestConfigure,
  requestControl,
  requestRekey,
  requestReload,
  requestShutdown,
} from './uapi/client.ts';
export { controlPath, type ControlSocket, isServed, listControls, removeDeadPath } from './uapi/paths.ts';
export { type PeerReport, reportStatus, type StatusReport } from './uapi/report.ts';
export { type ControlHandlers, type ControlledTunnel, type ControlServer, serveControl } from './uapi/server.ts';
export { formatBytes, formatDuration, formatMilliseconds, formatRate, oneLine, parseSize } from './text/format.ts';
export {
  createLog,
  LOG_LEVELS,
  type Log,
  type LogEvent,
  type LogFields,
  type LogFormat,
  type LogLevel,
  type LogOptions,
} from './text/log.ts';
