/** A tunnel as `sealane up` runs it: what it does to the system, in order, and how it follows its file. */
import type { CipherSuite } from '@sealane/protocol';
import {
  formatPrefix,
  type HookCommand,
  type LaneKind,
  type Log,
  notifyServiceManager,
  type ResolvedEndpoints,
  toUpdate,
  type Tunnel,
  type TunnelConfig,
  type TunnelUpdate,
  type UserIds,
} from '@sealane/tunnel';
import { readConfig, resolveConfig } from '../config-file.ts';
import { refusePipe } from '../config-path.ts';
import { CliError, errorLine, EXIT } from '../errors.ts';
import { hostTunnel } from '../hosting.ts';
import { identityOf } from '../identity.ts';
import { logTunnelEvent } from '../output/events.ts';
import { addressCommands } from '../system/address.ts';
import { forgetLink, setDns } from '../system/dns.ts';
import { guardTable, killSwitchTable, otherKillSwitch, takesEverything } from '../system/firewall.ts';
import { hooksOf, runHooks } from '../system/hooks.ts';
import { ipAllOrNone, ipBatch } from '../system/ip.ts';
import type { Journal } from '../system/journal.ts';
import { hasProgram, runProgram } from '../system/program.ts';
import { addDefaultRoutes, takeTable } from '../system/routes.ts';
import type { Stop } from '../system/stop.ts';
import { promoteSecondaries, writeSetting } from '../system/sysctl.ts';
import type { UndoStack } from '../system/undo.ts';
import { checkChange, checkLayout, ipChanges, losesIpv4Address, type State, withoutOldEndpoints } from './change.ts';
import { remember } from './endpoint-memory.ts';
import { EndpointKeeper } from './endpoints.ts';
import { allowedIpsOf, isFullTunnel, planLayout } from './layout.ts';
import { loopsNow } from './loops.ts';
import { OwnTables } from './own-tables.ts';
import { saveConfig } from './save.ts';

export interface UpSettings {
  readonly name: string;
  /** Absolute, or `-`. */
  readonly path: string;
  /** In place of what the file says of its peers, also when it is read again. */
  readonly cipher?: CipherSuite;
  /** Takes the file whoever may read it, also when it is read again. */
  readonly anyPermissions: boolean;
  readonly lane: LaneKind | 'auto';
  readonly lanes?: number;
  readonly killSwitch: boolean;
  /** Sets the name servers of the file. */
  readonly dns: boolean;
  /** Whose the process is to be once the tunnel is up, and what it keeps then. */
  readonly user?: UserIds & { readonly name: string; readonly capabilities: readonly number[] };
  /** How often names are looked up again; 0 is never. */
  readonly resolveMs: number;
  readonly log: Log;
}

const LINK_TIMEOUT = 10_000;
const LINK_INTERVAL = 20;

export class UpTunnel {
  readonly #settings: UpSettings;
  readonly #journal: Journal;
  readonly #stop: Stop;
  readonly #undo: UndoStack;
  #state: State;
  #tunnel: Tunnel | undefined;
  #keeper: EndpointKeeper | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #tables: OwnTables;

  private constructor(settings: UpSettings, state: State, journal: Journal, stop: Stop, undo: UndoStack) {
    this.#settings = settings;
    this.#state = state;
    this.#journal = journal;
    this.#stop = stop;
    this.#undo = undo;
    this.#tables = new OwnTables(settings.name, settings.log);
  }

  static async plan(
    settings: UpSettings,
    config: TunnelConfig,
    resolved: ResolvedEndpoints,
    journal: Journal,
    stop: Stop,
    undo: UndoStack,
  ): Promise<UpTunnel> {
    const layout = await planLayout(settings.name, config, resolved, settings.killSwitch, takeTable);
    return new UpTunnel(settings, { path: settings.path, config, resolved, layout }, journal, stop, undo);
  }

  /** Does everything, in wg-quick's order; the caller runs the undo stack, also when this fails. */
  async bringUp(): Promise<void> {
    const { name, path, lane, log, killSwitch, resolveMs } = this.#settings;
    const { config, resolved, layout } = this.#state;
    const { addresses } = config.interface;
    const hooks = hooksOf(config.interface);
    const step = async (work: Promise<unknown> | false): Promise<void> => {
      await work;
      this.#stop.check();
    };

    await step(refuseExisting(name));
    await step(this.#warnOfLoops());
    // From here on `sealane down` knows whom to end.
    this.#journal.begin();
    if (killSwitch) {
      if (takesEverything(allowedIpsOf(config))) await step(refuseSecondKillSwitch(name));
      this.#undo.pushLast({ kind: 'table', table: killSwitchTable(name) });
      await step(this.#tables.setKillSwitch(this.#state));
      this.#watchTables();
    }
    await step(runHooks('PreUp', hooks.PreUp, { name, path }, this.#stop.signal));
    const update = { ...toUpdate(config, resolved), fwmark: layout.mark };
    const tunnel = await this.#open(update, lane);
    tunnel.events((event) => logTunnelEvent(log, name, event));
    await step(ipBatch(addressCommands(name, addresses, layout.mtu)));
    await step(this.#setDns(config));
    await step(ipBatch(layout.routes.commands));
    if (isFullTunnel(layout)) {
      await step(addDefaultRoutes(name, layout.routes.defaults, layout.mark, layout.mark, this.#undo));
      await step(this.#guard());
      this.#watchTables();
    }
    await untilLinkIsSeen(tunnel, this.#stop);
    await step(runHooks('PostUp', hooks.PostUp, { name, path }, this.#stop.signal));
    // Whoever reads that the tunnel is up relies on them.
    await step(this.#inTurn(() => this.#tables.restore()));

    this.#keeper = new EndpointKeeper(tunnel, log, (found) => this.#noteEndpoints(found));
    this.#keeper.start(config, resolved, resolveMs);
    this.#undo.push('watching endpoints', () => Promise.resolve(this.#keeper?.stop()));
    this.#promiseHooks(hooks.PreDown, hooks.PostDown);
    await tunnel.rekey();
    await this.#becomeUser(tunnel);
    this.#announce(tunnel, (await tunnel.status()).crypto);
    notifyServiceManager(`READY=1\nMAINPID=${process.pid}`);
  }

  /** Reads the file again, or another one, and applies what is different; nothing, and the log says why, when it cannot. */
  reload(file?: string): Promise<void> {
    return this.#inTurn(() => this.#apply(file ?? this.#state.path)).catch((error: unknown) => {
      this.#settings.log.entry('reload-failed', `not reloaded: ${errorLine(error)}`);
      throw error;
    });
  }

  async #open(config: TunnelUpdate, lane: LaneKind | 'auto'): Promise<Tunnel> {
    const { name, log, lanes, user } = this.#settings;
    const { layout } = this.#state;
    const identity = identityOf(this.#state.config);
    try {
      this.#tunnel = await hostTunnel(
        {
          name,
          mtu: layout.mtu,
          lane,
          ...(lanes !== undefined && { lanes }),
          config,
          identity,
          log,
          reload: (file) => this.reload(file).catch(refuse),
          ...(user === undefined ? {} : { user }),
        },
        this.#stop,
        this.#undo,
      );
      return this.#tunnel;
    } catch (error) {
      if (layout.mark === 0 || !(error instanceof RangeError) || !error.message.includes('fwmark')) throw error;
      // A lane that cannot mark its datagrams cannot carry a default route: they would go round in the tunnel.
      const why =
        'a default route (or FwMark, or --kill-switch) needs marked datagrams, which only the Linux lane sends';
      throw new CliError(EXIT.failure, `${why}: leave --lane out, or narrow AllowedIPs`, { cause: error });
    }
  }

  async #warnOfLoops(): Promise<void> {
    const { config, resolved } = this.#state;
    for (const { what, remedy } of await loopsNow(this.#settings.name, config, resolved)) {
      this.#settings.log.entry('note', `${what}: ${remedy}`);
    }
  }

  async #setDns({ interface: { dns } }: TunnelConfig): Promise<void> {
    if (!this.#settings.dns || dns.servers.length + dns.search.length === 0) return;
    await setDns(this.#settings.name, dns, (record) => {
      this.#undo.pushStep({ kind: 'resolvconf', record });
    });
  }

  async #guard(): Promise<void> {
    const { name, log } = this.#settings;
    if (!hasProgram('nft')) {
      log.entry('note', 'nftables is missing: other hosts on your link may speak to the tunnel addresses');
      return;
    }
    this.#undo.pushStep({ kind: 'table', table: guardTable(name) });
    await this.#tables.setGuard(this.#state);
  }

  /** Call it after each that is set: it is over before that one is taken away. */
  #watchTables(): void {
    this.#tables.watch((work) => this.#inTurn(work));
    this.#undo.push('watching nftables', () => {
      this.#tables.unwatch();
      return this.#turn;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** What runs on the way down is promised only when the way up is done. */
  #promiseHooks(preDown: readonly HookCommand[], postDown: readonly HookCommand[]): void {
    const { name, path } = this.#settings;
    const step = { kind: 'commands', name, path } as const;
    if (postDown.length > 0) this.#undo.pushLast({ ...step, hook: 'PostDown', commands: postDown });
    this.#undo.push('SaveConfig', async () => {
      const { path: file, config } = this.#state;
      if (!config.interface.saveConfig || file === '-' || this.#stop.reason?.kind === 'closed') return;
      await saveConfig(this.#state, this.#tunnel!, this.#settings.dns);
    });
    if (preDown.length > 0) this.#undo.pushStep({ ...step, hook: 'PreDown', commands: preDown });
  }

  async #apply(path: string): Promise<void> {
    const { name, killSwitch, log } = this.#settings;
    const before = this.#state;
    const tunnel = this.#tunnel;
    refusePipe(path, 'it cannot be read again');
    if (tunnel === undefined) throw new CliError(EXIT.failure, `${name} is not up yet`);
    const config = await readConfig(path, { ...this.#settings, warn: (what) => log.entry('note', what) });
    checkChange(before.config, config, path);
    const { update, resolved } = await resolveConfig(config);
    const layout = await planLayout(name, config, resolved, killSwitch, () => Promise.resolve(before.layout.mark));
    checkLayout(before.layout, layout, path);

    const after = { path, config, resolved, layout };
    await this.#change(tunnel, before, after, update);
    this.#state = after;
    await this.#warnOfLoops();
    this.#keeper?.replace(config, resolved);
    this.#journal.update({ config: path, endpoints: remember(resolved) });
    log.entry('reloaded', `${name} follows ${path}`, { name, config: path });
  }

  /** New answers to some of the names. */
  #noteEndpoints(found: ResolvedEndpoints): void {
    const resolved = new Map([...this.#state.resolved, ...found]);
    this.#state = { ...this.#state, resolved };
    this.#journal.update({ endpoints: remember(resolved) });
  }

  /** From one state to another; when a part of it fails, all of it is taken back. */
  async #change(tunnel: Tunnel, before: State, after: State, update: TunnelUpdate): Promise<void> {
    const { name, log } = this.#settings;
    const back: (() => Promise<unknown>)[] = [];
    const configure = (to: State, from: State, wanted: TunnelUpdate): Promise<void> =>
      tunnel.configure({ ...withoutOldEndpoints(wanted, from.config, to.config), fwmark: to.layout.mark });
    try {
      if (losesIpv4Address(before, after)) writeSetting(promoteSecondaries(name), '1');
      await ipAllOrNone(ipChanges(name, before, after));
      back.push(() => ipAllOrNone(ipChanges(name, after, before)));
      await configure(after, before, update);
      back.push(() => configure(before, after, toUpdate(before.config, before.resolved)));
      back.push(() => this.#tables.follow(before));
      await this.#tables.follow(after);
      back.push(() => this.#followDns(after, before));
      await this.#followDns(before, after);
    } catch (error) {
      for (const undo of back.toReversed()) {
        await undo().catch((why: unknown) => log.entry('undo-failed', `cannot go back: ${errorLine(why)}`));
      }
      throw error;
    }
  }

  async #followDns(before: State, after: State): Promise<void> {
    const [was, is] = [before.config.interface.dns, after.config.interface.dns];
    if (!this.#settings.dns || JSON.stringify(was) === JSON.stringify(is)) return;
    await this.#undo.undoEarly(({ kind }) => kind === 'resolvconf');
    if (is.servers.length + is.search.length === 0) await forgetLink(this.#settings.name);
    await this.#setDns(after.config);
  }

  async #becomeUser(tunnel: Tunnel): Promise<void> {
    const { user } = this.#settings;
    if (user === undefined) return;
    this.#journal.handOver(user.name);
    try {
      await tunnel.becomeUser(user, user.capabilities);
    } catch (cause) {
      throw new CliError(EXIT.noPermission, `--user ${user.name}: cannot become that user: ${errorLine(cause)}`, {
        cause,
      });
    }
  }

  #announce(tunnel: Tunnel, crypto: string): void {
    const { name, killSwitch, log } = this.#settings;
    const { config, layout } = this.#state;
    const routes = layout.routes.commands.length + layout.routes.defaults.length;
    const parts = [
      config.interface.addresses.map(formatPrefix).join(', ') || 'no address',
      `MTU ${layout.mtu}`,
      routes === 1 ? '1 route' : `${routes} routes`,
      ...layout.routes.defaults.map((family) => `all IPv${family} traffic`),
      ...(killSwitch ? ['kill switch'] : []),
      `lane ${tunnel.lane}`,
      `crypto ${crypto}`,
    ];
    const message = `${name} is up: ${parts.join(', ')}; Ctrl-C or 'sealane down ${name}' takes it down`;
    log.entry('up', message, { name, mtu: layout.mtu, lane: tunnel.lane, crypto, killSwitch, pid: process.pid });
  }
}

/** As wg-quick does: what somebody else made would be changed, and left behind so. */
async function refuseExisting(name: string): Promise<void> {
  const { status } = await runProgram('ip', ['link', 'show', 'dev', name]);
  if (status !== 0) return;
  throw new CliError(
    EXIT.failure,
    `the interface ${name} exists already: remove it, or choose another name with --name`,
  );
}

async function refuseSecondKillSwitch(name: string): Promise<void> {
  const other = await otherKillSwitch(name);
  if (other === undefined) return;
  const why = `the kill switch of ${other} lets out nothing but that tunnel, and ours would refuse it in turn`;
  throw new CliError(EXIT.failure, `${why}: 'sealane down ${other}' first`);
}

/**
 * A lane notices that its interface came up a moment later; a handshake before that would be lost. Then it opens its
 * sockets, and only that shows whether it may have its port.
 */
async function untilLinkIsSeen(tunnel: Tunnel, stop: Stop): Promise<void> {
  const deadline = performance.now() + LINK_TIMEOUT;
  for (;;) {
    const { up, socketProblem } = await tunnel.status();
    if (socketProblem !== undefined) throw new CliError(EXIT.failure, socketProblem);
    if (up) return;
    if (performance.now() > deadline) throw new CliError(EXIT.failure, `the interface ${tunnel.name} does not come up`);
    await stop.sleep(LINK_INTERVAL);
    stop.check();
  }
}

/** A control socket answers with a number: EINVAL for what is wrong with the file. */
function refuse(error: unknown): never {
  if (!(error instanceof CliError) || error.exitCode !== EXIT.badInput) throw error;
  throw new RangeError(error.message, { cause: error });
}
