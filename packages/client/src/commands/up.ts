import { formatPrefix, type LaneKind, type Tunnel, type TunnelConfig, type TunnelUpdate } from '@sealane/tunnel';
import { configPath, interfaceNameOf, readConfig, resolveConfig } from '../config-file.ts';
import { badInput, CliError, EXIT, type ExitCode } from '../errors.ts';
import { eventLine, freeControlPath, hostTunnel, inForeground, interfacePath } from '../hosting.ts';
import { identityOf } from '../identity.ts';
import { note } from '../output/terminal.ts';
import { addressCommands } from '../system/address.ts';
import { ipBatch } from '../system/ip.ts';
import { addDefaultRoutes, freeTable, planRoutes, type RoutePlan } from '../system/routes.ts';
import { Stop } from '../system/stop.ts';
import { UndoStack } from '../system/undo.ts';

export interface UpOptions {
  readonly name?: string;
  readonly lane: LaneKind | 'auto';
}

const DEFAULT_MTU = 1_420;
const LINK_TIMEOUT = 10_000;
const LINK_INTERVAL = 20;

/** Brings a tunnel up as its file says, stays in the foreground, and leaves the system as it was. */
export async function up(given: string, options: UpOptions): Promise<ExitCode> {
  const path = configPath(given);
  const name = options.name ?? interfaceNameOf(path);
  interfacePath(name);
  const config = await readConfig(path);
  checkSupported(config, path);
  await freeControlPath(name);
  const { update } = await resolveConfig(config);

  const stop = new Stop();
  const undo = new UndoStack();
  return inForeground(name, stop, undo, () => bringUp(name, config, update, options.lane, stop, undo));
}

async function bringUp(
  name: string,
  config: TunnelConfig,
  update: TunnelUpdate,
  lane: LaneKind | 'auto',
  stop: Stop,
  undo: UndoStack,
): Promise<void> {
  const { addresses, table, mtu = DEFAULT_MTU } = config.interface;
  const allowedIps = config.peers.flatMap((peer) => peer.allowedIps);
  const plan = planRoutes(name, table, addresses, allowedIps);
  const mark = await markFor(plan, config);
  const tunnel = await openMarked(mark, () =>
    hostTunnel({ name, mtu, lane, config: { ...update, fwmark: mark }, identity: identityOf(config) }, stop, undo),
  );
  tunnel.events((event) => {
    const line = eventLine(event);
    if (line !== undefined) note(`${name}: ${line}`);
  });

  await ipBatch(addressCommands(name, addresses, mtu));
  stop.check();
  await ipBatch(plan.commands);
  stop.check();
  await addDefaultRoutes(name, plan.defaults, mark, mark, undo);
  await untilLinkIsSeen(tunnel, stop);
  await tunnel.rekey();
  await announce(name, config, plan, mtu, tunnel.lane, (await tunnel.status()).crypto);
}

/** The mark of outer datagrams: the file's own, else one for a default route, else none. */
async function markFor(plan: RoutePlan, config: TunnelConfig): Promise<number> {
  const own = config.interface.fwmark ?? 0;
  return own !== 0 || plan.defaults.length === 0 ? own : freeTable();
}

/** A lane notices that its interface came up a moment later; a handshake before that would be lost. */
async function untilLinkIsSeen(tunnel: Tunnel, stop: Stop): Promise<void> {
  const deadline = performance.now() + LINK_TIMEOUT;
  while (!(await tunnel.status()).up) {
    if (performance.now() > deadline) throw new CliError(EXIT.failure, `the interface ${tunnel.name} does not come up`);
    await stop.sleep(LINK_INTERVAL);
    stop.check();
  }
}

/** A lane that cannot mark its datagrams cannot carry a default route: they would go round in the tunnel. */
async function openMarked<T>(mark: number, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (mark === 0 || !(error instanceof RangeError) || !error.message.includes('fwmark')) throw error;
    const why = 'a default route (or FwMark) needs marked datagrams, which only the Linux lane sends';
    throw new CliError(EXIT.failure, `${why}: leave --lane out, or narrow AllowedIPs`, { cause: error });
  }
}

/** A hook may be a firewall: bringing the tunnel up without it could be worse than not at all. */
function checkSupported(config: TunnelConfig, path: string): void {
  const { preUp, postUp, preDown, postDown, dns, saveConfig } = config.interface;
  const hooks = { PreUp: preUp, PostUp: postUp, PreDown: preDown, PostDown: postDown };
  const used = Object.entries(hooks).find(([, commands]) => commands.length > 0);
  if (used !== undefined) {
    throw badInput(`${path}: ${used[0]}: commands are not run by 'sealane up': remove the line, or use wg-quick`);
  }
  if (dns.servers.length + dns.search.length > 0)
    note(`sealane: ${path}: DNS is not set by 'sealane up': names are resolved as before`);
  if (saveConfig) note(`sealane: ${path}: SaveConfig is not done by 'sealane up': the file stays as it is`);
}

async function announce(
  name: string,
  config: TunnelConfig,
  plan: RoutePlan,
  mtu: number,
  lane: LaneKind,
  crypto: string,
): Promise<void> {
  const routes = plan.commands.length + plan.defaults.length;
  const parts = [
    config.interface.addresses.map(formatPrefix).join(', ') || 'no address',
    `MTU ${mtu}`,
    routes === 1 ? '1 route' : `${routes} routes`,
    ...plan.defaults.map((family) => `all IPv${family} traffic`),
    `lane ${lane}`,
    `crypto ${crypto}`,
  ];
  note(`sealane: ${name} is up: ${parts.join(', ')}; Ctrl-C or 'sealane down ${name}' takes it down`);
}
