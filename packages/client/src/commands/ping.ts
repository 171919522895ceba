import { stat } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { type CipherSuite, formatKey } from '@sealane/protocol';
import {
  ControlError,
  formatAddress,
  formatBytes,
  formatEndpoint,
  formatMilliseconds,
  listControls,
  peerEndpoints,
  readStatus,
  selectCrypto,
  type TunnelConfig,
} from '@sealane/tunnel';
import { readConfig, resolveConfig } from '../config-file.ts';
import { configPath } from '../config-path.ts';
import { badInput, CliError, EXIT, type ExitCode } from '../errors.ts';
import { identityOf } from '../identity.ts';
import { formatSummary, summaryObject } from '../output/ping.ts';
import { note, print, printJson, ProgressLine, styleFor } from '../output/terminal.ts';
import { runPing, type PingObserver, type PingPlan, type PingResult } from '../ping/run.ts';
import { chooseTarget, type PingTarget } from '../ping/target.ts';
import { stateFolder } from '../system/state.ts';
import { Stop } from '../system/stop.ts';

export interface PingCommandOptions {
  readonly count: number;
  readonly size: number;
  /** Seconds. */
  readonly timeout: number;
  readonly bulk?: number;
  readonly rekey?: boolean;
  readonly target?: string;
  readonly force?: boolean;
  readonly json?: boolean;
  readonly cipher?: CipherSuite;
  readonly anyPermissions?: boolean;
}

const DEFAULT_MTU = 1_420;
/** IP and ICMP headers of an echo request. */
const HEADERS = { 4: 28, 16: 48 } as const;

/** Tries a configuration without privileges: handshake, round trips, and what is wrong when there are none. */
export async function ping(given: string, options: PingCommandOptions): Promise<ExitCode> {
  const path = configPath(given);
  const config = await readConfig(path, options);
  const target = chooseTarget(config, path, options.target);
  checkSize(config, target, options.size);
  if (options.force !== true) await refuseRunning(config, "use 'ping ADDRESS', which goes through it, or add --force");
  const stop = new Stop();
  try {
    const plans = await pingPlans(path, config, target, {
      count: options.count,
      size: options.size,
      timeoutMs: options.timeout * 1_000,
      bulk: options.bulk ?? 0,
      rekey: options.rekey === true,
    });
    return await report(plans, options, stop);
  } finally {
    stop.dispose();
  }
}

/** The plan of a ping to the first endpoint of the target's peer; CliError when it has none. */
export async function pingPlan(
  path: string,
  config: TunnelConfig,
  target: PingTarget,
  options: { readonly count: number; readonly size: number; readonly timeoutMs: number },
): Promise<PingPlan> {
  const [plan] = await pingPlans(path, config, target, { ...options, bulk: 0, rekey: false });
  return plan!;
}

/** One for each endpoint of the target's peer, in the order of preference. */
async function pingPlans(
  path: string,
  config: TunnelConfig,
  target: PingTarget,
  options: Pick<PingPlan, 'count' | 'size' | 'timeoutMs' | 'bulk' | 'rekey'>,
): Promise<readonly PingPlan[]> {
  const { update, resolved } = await resolveConfig(config);
  const endpoints = peerEndpoints(target.peer, resolved);
  if (endpoints.length === 0) throw new CliError(EXIT.noAnswer, `${target.peer.endpoints[0]} has no address`);
  const folder = await stateFolder();
  const configTime = path === '-' ? undefined : (await stat(path)).mtimeMs;
  const key = formatKey(target.peer.publicKey);
  return endpoints.map((endpoint) => ({
    config,
    update: {
      ...update,
      peers: (update.peers ?? []).map((peer) => (formatKey(peer.publicKey) === key ? { ...peer, endpoint } : peer)),
    },
    target,
    endpoint,
    ...options,
    ...(folder === undefined ? {} : { timestampFile: `${folder}/timestamp-${identityOf(config)}` }),
    ...(configTime === undefined ? {} : { configTime }),
  }));
}

async function report(plans: readonly PingPlan[], options: PingCommandOptions, stop: Stop): Promise<ExitCode> {
  for (const [i, plan] of plans.entries()) {
    const result = await attempt(plan, options, stop);
    const isLast = i === plans.length - 1 || stop.reason !== undefined;
    if (result.handshakeMs !== undefined || isLast) return conclude(result, plan, options, stop);
    note(`sealane: ${formatEndpoint(plan.endpoint)} does not answer, trying ${formatEndpoint(plans[i + 1]!.endpoint)}`);
  }
  return EXIT.noAnswer;
}

async function attempt(plan: PingPlan, options: PingCommandOptions, stop: Stop): Promise<PingResult> {
  const progress = new ProgressLine();
  const name = plan.target.peer.endpoints[0] ?? '';
  const literal = formatEndpoint(plan.endpoint);
  progress.show(`handshake with ${name === literal ? name : `${name} (${literal})`} ...`);
  return runPing(plan, observerFor(plan, options, progress), stop).finally(() => progress.clear());
}

async function conclude(
  result: PingResult,
  plan: PingPlan,
  options: PingCommandOptions,
  stop: Stop,
): Promise<ExitCode> {
  const style = styleFor(process.stdout);
  if (options.json === true) {
    await printJson(summaryObject(result, plan));
    return result.diagnosis?.exitCode ?? EXIT.ok;
  }
  const summary = formatSummary(result, plan, style);
  if (summary !== '') await print(summary);
  if (result.diagnosis === undefined) return stop.reason === undefined ? EXIT.ok : EXIT.interrupted;
  const { summary: what, hints, exitCode } = result.diagnosis;
  const errors = styleFor(process.stderr);
  note(errors.red(`sealane: ${what}`));
  for (const hint of hints) note(`  - ${hint}`);
  return exitCode;
}

function observerFor(plan: PingPlan, { json }: PingCommandOptions, progress: ProgressLine): PingObserver {
  const say = (text: string): void => {
    progress.clear();
    if (json !== true) process.stdout.write(`${text}\n`);
  };
  const style = styleFor(process.stdout);
  return {
    handshake: (milliseconds) =>
      say(`handshake with ${formatEndpoint(plan.endpoint)}: ${style.bold(formatMilliseconds(milliseconds))}`),
    echo: (sequence, milliseconds) =>
      say(
        `echo ${sequence}: ${milliseconds === undefined ? style.red('no answer') : formatMilliseconds(milliseconds)}`,
      ),
    rekeyed: (sessions) => say(`rekeyed: session ${sessions} stands`),
    bulk: (bytes) => {
      if (json !== true) progress.show(`${formatBytes(bytes)} of ${formatBytes(plan.bulk)}`);
    },
  };
}

function checkSize(config: TunnelConfig, { address }: PingTarget, size: number): void {
  const largest = (config.interface.mtu ?? DEFAULT_MTU) - HEADERS[address.length === 4 ? 4 : 16];
  if (size > largest) throw badInput(`--size ${size} does not fit the tunnel: at most ${largest} bytes`);
}

/** The name of a tunnel that is up with the key of this configuration, as far as we may ask it. */
export async function runningWith(config: TunnelConfig): Promise<string | undefined> {
  const own = formatKey(selectCrypto().publicKey(config.interface.privateKey));
  for (const { name, path } of await listControls()) {
    try {
      if ((await readStatus(path)).publicKey === own) return name;
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
    }
  }
  return undefined;
}

/** The server would answer the newer session, and the running tunnel would be cut off until it notices. */
export async function refuseRunning(config: TunnelConfig, way: string): Promise<void> {
  const refuse = (what: string): never => {
    throw new CliError(EXIT.failure, `${what}, and a second tunnel would cut it off: ${way}`);
  };
  const name = await runningWith(config);
  if (name !== undefined) refuse(`${name} is up with this key`);
  // Whose key nobody but its owner, or another program, can tell: an address that is here already belongs to this file's tunnel.
  const addresses = config.interface.addresses.map(({ address }) => formatAddress(address));
  for (const [link, entries = []] of Object.entries(networkInterfaces())) {
    const taken = entries.find(({ address }) => addresses.includes(address));
    if (taken !== undefined) refuse(`${link} is up with ${taken.address}`);
  }
}
