/** The nftables tables of a tunnel: set, kept in step with its file, and put back when somebody changes them. */
import { type FirewallState, type Log, OwnTable, watchFirewall } from '@sealane/tunnel';
import { errorLine } from '../errors.ts';
import { guardScript, guardTable, killSwitchScript, killSwitchTable } from '../system/firewall.ts';
import { nftProgram } from '../system/nft.ts';
import type { State } from './change.ts';
import { allowedIpsOf } from './layout.ts';

/** One after the other with what changes them otherwise. */
export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

type Script = (state: Pick<State, 'config' | 'layout'>) => string;

export class OwnTables {
  readonly #name: string;
  readonly #log: Log;
  readonly #tables = new Map<OwnTable, Script>();
  #stop: (() => void) | undefined;

  constructor(name: string, log: Log) {
    this.#name = name;
    this.#log = log;
  }

  setKillSwitch(state: State): Promise<void> {
    const name = this.#name;
    const script: Script = ({ config, layout }) => killSwitchScript(name, allowedIpsOf(config), layout.mark);
    return this.#add(killSwitchTable(name), script, state);
  }

  setGuard(state: State): Promise<void> {
    const name = this.#name;
    const script: Script = ({ config, layout }) => guardScript(name, config.interface.addresses, layout.mark);
    return this.#add(guardTable(name), script, state);
  }

  /** Makes those that were set what they are to be now. */
  async follow(state: State): Promise<void> {
    for (const [table, script] of this.#tables) await table.set(script(state));
  }

  /** Who loads a firewall often flushes everybody's first: ours are put back, whole. Resolves to whether that was needed. */
  async restore(): Promise<boolean> {
    const changed: string[] = [];
    for (const table of this.#tables.keys()) if (await table.restore()) changed.push(table.name);
    if (changed.length === 0) return false;
    const what = `somebody changed our nftables table ${changed.join(' and ')}: it is as it was again`;
    this.#log.limited('firewall-restored', what);
    return true;
  }

  /** Looks after them, and after those that are set later, until `unwatch`. */
  watch(inTurn: InTurn): void {
    if (this.#stop !== undefined || this.#tables.size === 0) return;
    this.#stop = watchFirewall(async (): Promise<FirewallState> => {
      try {
        return (await inTurn(() => this.restore())) ? 'restored' : 'whole';
      } catch (error) {
        const what = `the nftables tables of ${this.#name} cannot be put back: ${errorLine(error)}`;
        this.#log.limited('firewall-failed', what);
        return 'failed';
      }
    });
  }

  unwatch(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  async #add(name: string, script: Script, state: State): Promise<void> {
    const table = new OwnTable(name, nftProgram);
    await table.set(script(state));
    this.#tables.set(table, script);
  }
}
