import { openTun, type PacketDevice } from '@sealane/tunnel';
import { errorCode, errorLine, RefusedError } from '../errors.ts';
import { type GatewayLimits, startUserspaceGateway } from '../userspace/gateway.ts';
import type { Rule } from '../userspace/policy.ts';
import { configureInterface } from './interface.ts';

export interface PacketDeviceOptions {
  /** `auto`: a TUN interface when the system lets us make one, else userspace. */
  readonly mode: 'tun' | 'userspace' | 'auto';
  readonly interfaceName: string;
  /** The server's addresses with the length of their block. */
  readonly addresses: readonly string[];
  readonly mtu: number;
  /** Queues of the TUN interface, one by default: each is a lane. */
  readonly lanes?: number;
  /** Where peers may and may not go; in userspace only. */
  readonly allow?: readonly Rule[];
  readonly deny?: readonly Rule[];
  /** What peers may hold; in userspace only. */
  readonly limits?: Partial<GatewayLimits>;
  /** Whose an address is; in userspace only. */
  readonly peerOf?: (address: string) => string | undefined;
}

export interface OpenedDevice {
  readonly device: PacketDevice;
  /** Why it is not the TUN interface that was looked for first. */
  readonly fallback?: string;
}

/**
 * Opens what the server's packets come from and go to.
 * @throws RefusedError when `tun` cannot be had, naming the way that needs no permission.
 */
export async function openPacketDevice(options: PacketDeviceOptions): Promise<OpenedDevice> {
  if (options.mode === 'userspace') return { device: startUserspaceGateway(options) };
  let device: PacketDevice;
  try {
    device = openTun({ name: options.interfaceName, mtu: options.mtu, queues: options.lanes ?? 1 });
  } catch (error) {
    if (options.mode === 'auto' && isUnavailable(error)) {
      // What follows the semicolon recommends what is done here.
      return { device: startUserspaceGateway(options), fallback: errorLine(error).split('; ')[0]! };
    }
    throw new RefusedError(errorLine(error).replace(/choose another name$/, '$& with --interface'), { cause: error });
  }
  try {
    await configureInterface(device.name, options.addresses, options.mtu);
  } catch (error) {
    await device.close();
    throw error;
  }
  return { device };
}

/** No permission, no such device here, or no TUN on this system: nothing that trying again would change. */
const UNAVAILABLE: ReadonlySet<string> = new Set(['EPERM', 'EACCES', 'ENOENT', 'ENODEV', 'ENXIO', 'ENOSYS']);

function isUnavailable(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (UNAVAILABLE.has(errorCode(cause) ?? cause.message)) return true;
  }
  return false;
}
