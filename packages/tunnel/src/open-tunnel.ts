import type { TunnelConfig } from './config/model.ts';
import { openUserspaceTunnel, type UserspaceOptions, type UserspaceTunnel } from './net/userspace-tunnel.ts';
import { openDeviceTunnel, type Tunnel, type TunnelOptions } from './tunnel.ts';

/**
 * Opens a tunnel inside this process from a configuration or the path of one; it brings a TCP/IP stack of its own and is used
 * through its sockets. Throws ConfigError or ResolveError for a configuration that cannot be used, RangeError for one without an
 * address.
 */
export function openTunnel(source: TunnelConfig | string, options?: UserspaceOptions): Promise<UserspaceTunnel>;
/**
 * Opens a tunnel between a packet device of one's own, such as a TUN interface, and the network. Throws TypeError or RangeError
 * for a wrong configuration, and an Error with its `cause` for what the system refuses; nothing stays open then.
 */
export function openTunnel(options: TunnelOptions): Promise<Tunnel>;
export function openTunnel(
  source: TunnelConfig | string | TunnelOptions,
  options?: UserspaceOptions,
): Promise<UserspaceTunnel | Tunnel> {
  return typeof source === 'object' && 'device' in source
    ? openDeviceTunnel(source)
    : openUserspaceTunnel(source, options);
}
