/** All listeners of one `sealane proxy`: all of them open, or none. */
import { hostNetwork, type NetworkStack } from '@sealane/tunnel';
import { badInput } from '../errors.ts';
import { type Forward, formatTarget, isPrivate, type ListenAddress } from './address.ts';
import { Complaints } from './complaints.ts';
import {
  DEFAULT_LIMITS,
  type ForwardContext,
  type ProxyContext,
  type ProxyLimits,
  type ProxyVoice,
} from './context.ts';
import type { Credentials } from './credentials.ts';
import { forwardLocalTcp, forwardRemoteTcp } from './forward-tcp.ts';
import { forwardUdp } from './forward-udp.ts';
import { listenHttp } from './http.ts';
import type { Listener } from './listener.ts';
import { listenSocks5 } from './socks5.ts';

export interface ProxyPlan {
  readonly socks5?: readonly ListenAddress[];
  readonly http?: readonly ListenAddress[];
  readonly local?: readonly Forward[];
  readonly remote?: readonly Forward[];
  readonly credentials?: Credentials;
  /** Lets other computers in without a password. */
  readonly expose?: boolean;
  readonly limits?: Partial<ProxyLimits>;
}

export interface Proxy {
  /** What is open, one line each, such as `SOCKS5 on 127.0.0.1:1080`. */
  readonly listening: readonly string[];
  close(): Promise<void>;
}

/** CliError for a listener that other computers could use although nobody asks them for a password. */
export function checkExposure(plan: ProxyPlan): void {
  if (plan.expose === true) return;
  const { socks5 = [], http = [], local = [], credentials } = plan;
  const open: readonly (readonly [string, ListenAddress, boolean])[] = [
    ...socks5.map((address) => ['--socks5', address, true] as const),
    ...http.map((address) => ['--http', address, true] as const),
    ...local.map(({ listen }) => ['-L', listen, false] as const),
  ];
  for (const [option, address, canAsk] of open) {
    if (isPrivate(address) || (canAsk && credentials !== undefined)) continue;
    const remedy = canAsk ? 'set a password with --auth, or allow it with --expose' : 'allow it with --expose';
    throw badInput(
      `${option} ${formatTarget(address)}: every computer that reaches this address could use the tunnel: ${remedy}`,
    );
  }
}

/**
 * Opens everything that the plan names over a network; CliError when one cannot be opened, and then none is. Without a
 * voice failures stand for themselves, and nobody is told.
 */
export async function openProxy(
  plan: ProxyPlan,
  network: NetworkStack,
  { explain = asItIs, complaints = new Complaints(() => undefined) }: Partial<ProxyVoice> = {},
): Promise<Proxy> {
  checkExposure(plan);
  const { socks5 = [], http = [], local = [], remote = [], credentials } = plan;
  const limits = { ...DEFAULT_LIMITS, ...plan.limits };
  const context: ProxyContext = {
    network,
    limits,
    explain,
    complaints,
    ...(credentials !== undefined && { credentials }),
  };
  // What fails on this computer's side is not the tunnel's.
  const here: ForwardContext = { limits, explain: asItIs, complaints };
  const steps: readonly (readonly [(where: string) => string, () => Promise<Listener>])[] = [
    ...socks5.map(
      (address) => [(where: string) => `SOCKS5 on ${where}`, () => listenSocks5(address, context)] as const,
    ),
    ...http.map((address) => [(where: string) => `HTTP on ${where}`, () => listenHttp(address, context)] as const),
    ...local.map((forward) => {
      const say = (where: string): string => `${where} to ${formatTarget(forward.target)}`;
      const start = (): Promise<Listener> =>
        forward.protocol === 'tcp'
          ? forwardLocalTcp(forward, context)
          : forwardUdp(forward, hostNetwork, network, context);
      return [say, start] as const;
    }),
    ...remote.map((forward) => {
      const say = (where: string): string => `${where} to ${formatTarget(forward.target)} here`;
      const start = (): Promise<Listener> =>
        forward.protocol === 'tcp'
          ? forwardRemoteTcp(forward, network, hostNetwork, here)
          : forwardUdp(forward, network, hostNetwork, here);
      return [say, start] as const;
    }),
  ];
  const listeners: Listener[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(listeners.map((listener) => listener.close()));
  };
  const listening: string[] = [];
  try {
    for (const [say, start] of steps) {
      const listener = await start();
      listeners.push(listener);
      listening.push(say(listener.where));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { listening, close };
}

function asItIs(error: unknown): Promise<unknown> {
  return Promise.resolve(error);
}
