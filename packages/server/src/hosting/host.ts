/** A server with a TUN interface as a router for its peers: forwarding, firewall and NAT, undone exactly. */
import { readFileSync } from 'node:fs';
import type { Prefix } from '@sealane/protocol';
import { type FirewallState, OwnTable } from '@sealane/tunnel';
import { errorLine, RefusedError } from '../errors.ts';
import type { Rule } from '../userspace/policy.ts';
import { droppingChains, firewallScript, removalScript, tableOf, tableStands } from './firewall.ts';
import { enableForwarding, restore, switchedOn, wereOff, without, type Family } from './forwarding.ts';
import { beforeLines, carriedSettings, neighbours, settingsBefore } from './neighbours.ts';
import { nft, nftProgram } from './nft.ts';
import { type HostRecord, readRecords, writeRecord } from './record.ts';

export interface HostOptions {
  readonly interfaceName: string;
  readonly networks: readonly Prefix[];
  readonly allow: readonly Rule[];
  readonly deny: readonly Rule[];
  readonly peerToPeer: boolean;
  readonly nat: boolean;
  /** Where it is noted what to undo, should this process be killed. */
  readonly recordFile: string;
}

export interface HostedNetwork {
  /** What an operator has to know. */
  readonly notes: readonly string[];
  /** Puts the firewall back when somebody removed or changed it, and follows servers that come and go. */
  restore(): Promise<Exclude<FirewallState, 'failed'>>;
  /** Undoes what was done here, whatever became of the file that it is noted in. */
  undo(): Promise<void>;
}

/**
 * Sets the host up for the peers, after undoing what a killed server left.
 * @throws RefusedError when the system refuses; nothing is left changed then.
 */
export async function hostNetwork(options: HostOptions): Promise<HostedNetwork> {
  const { interfaceName, networks, recordFile } = options;
  await undoRecord(recordFile, interfaceName);
  const families: readonly Family[] = [
    ...new Set(networks.map(({ address }) => (address.length === 4 ? 'ipv4' : 'ipv6'))),
  ];
  const table = new OwnTable(tableOf(interfaceName), nftProgram);
  let record: HostRecord = { interfaceName, settings: [] };
  const undo = async (): Promise<void> => {
    if (table.mayStand) await undoChanges(record);
    writeRecord(recordFile, undefined);
  };
  try {
    const replaces = await tableStands(interfaceName);
    const settings = await settingsBefore(interfaceName, families);
    record = { interfaceName, settings };
    const fixed = { ...options, onlyPeers: wereOff(settings), before: beforeLines(settings) };
    const scriptFor = (others: readonly string[]): string => firewallScript({ ...fixed, neighbours: others });
    writeRecord(recordFile, record);
    const others = await neighbours(interfaceName);
    // The firewall comes first: nothing is forwarded that it has not seen.
    await table.set(scriptFor(others));
    for (const family of families) enableForwarding(family);
    const dead = others.filter((name) => !interfaceExists(name));
    const notes = [
      ...(await droppingChains()).map(
        (chain) =>
          `the firewall chain '${chain}' drops forwarded packets: it is left as it is; let ${interfaceName} through there`,
      ),
      ...dead.map(
        (name) =>
          `a killed server left the nftables table inet ${tableOf(name)}, which may drop what ${interfaceName} forwards: undo it with 'sealaned down' and its --state`,
      ),
      ...(replaces === true
        ? [
            `a killed server of another --state left the nftables table inet ${table.name}: it is replaced, and what that server changed is undone when this one ends`,
          ]
        : []),
    ];
    const putBack = async (): Promise<'whole' | 'restored'> => {
      const script = scriptFor(await neighbours(interfaceName));
      if (script === table.script) return (await table.restore()) ? 'restored' : 'whole';
      const wasWhole = await table.isWhole();
      await table.set(script);
      return wasWhole ? 'whole' : 'restored';
    };
    return { notes, restore: putBack, undo };
  } catch (error) {
    // A transaction that failed changed nothing, and what made it fail makes its removal fail too.
    await undo();
    const why = error instanceof RefusedError ? '' : 'forwarding cannot be set up: ';
    const remedy = "or set up forwarding yourself and add '--no-forwarding'";
    throw new RefusedError(`${why}${errorLine(error)}, ${remedy}`, { cause: error });
  }
}

/** What still stands of a record, in words. */
export async function describeRecord({ interfaceName, settings }: HostRecord): Promise<readonly string[]> {
  const stands = await tableStands(interfaceName);
  const table = `nftables table inet ${tableOf(interfaceName)}`;
  const tables = stands === false ? [] : [stands === true ? table : `${table} if it is there`];
  const carried = await carriedSettings(interfaceName).catch(() => []);
  return [...tables, ...switchedOn(without(settings, carried))];
}

/**
 * Undoes what was recorded in this network namespace, if anything was, and removes the record.
 * @throws RefusedError when a program has the interface, but for `ownInterface`, or when the system refuses.
 */
export async function undoRecord(path: string, ownInterface?: string): Promise<void> {
  const { here: record } = readRecords(path);
  if (record !== undefined) {
    const { interfaceName } = record;
    if (interfaceName !== ownInterface && interfaceExists(interfaceName)) {
      throw new RefusedError(`the interface ${interfaceName} belongs to a program that runs: stop it first`);
    }
    try {
      await undoChanges(record);
    } catch (error) {
      if (process.geteuid?.() === 0) throw error;
      throw new RefusedError(`${errorLine(error)}: run 'sealaned down' as root`, { cause: error });
    }
  }
  writeRecord(path, undefined);
}

/** What other servers carry is theirs to put back when they end. */
async function undoChanges({ interfaceName, settings }: HostRecord): Promise<void> {
  const own = without(settings, await carriedSettings(interfaceName));
  restore(own);
  await nft(removalScript(interfaceName));
  // Another one may have ended at the same moment and have left it to us, or may have begun and have found it on.
  const carried = await carriedSettings(interfaceName);
  restore(without(settings, carried));
  const begun = new Set(wereOff(carried));
  for (const family of wereOff(own)) if (begun.has(family)) enableForwarding(family);
}

/** In the network namespace of this process; what is mounted at /sys may be of another one. */
function interfaceExists(name: string): boolean {
  const lines = readFileSync('/proc/self/net/dev', 'utf8').split('\n');
  return lines.some((line) => line.trimStart().startsWith(`${name}:`));
}
