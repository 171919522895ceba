/** A server with a TUN interface as a router for its peers: forwarding, firewall and NAT, undone exactly. */
import { readFileSync } from 'node:fs';
import type { Prefix } from '@sealane/protocol';
import { networkNamespace } from '@sealane/tunnel';
import { errorCode, errorLine, RefusedError } from '../errors.ts';
import { removeFile, replaceFile } from '../state/file.ts';
import type { Rule } from '../userspace/policy.ts';
import { droppingChains, firewallScript, listTable, nft, removalScript, tableOf } from './firewall.ts';
import {
  enableForwarding,
  forwardingSettings,
  isForwarding,
  isSettings,
  restore,
  switchedOn,
  type Family,
  type Settings,
} from './forwarding.ts';

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
  /** Puts the firewall back when somebody removed or changed it; resolves to whether that was so. */
  restore(): Promise<boolean>;
  undo(): Promise<void>;
}

interface HostRecord {
  /** Of the system's start and of the network namespace: elsewhere the record means nothing. */
  readonly place: string;
  readonly interfaceName: string;
  readonly settings: Settings;
}

/**
 * Sets the host up for the peers, after undoing what a killed server left.
 * @throws RefusedError when the system refuses; nothing is left changed then.
 */
export async function hostNetwork(options: HostOptions): Promise<HostedNetwork> {
  const { interfaceName, networks, recordFile } = options;
  await undoRecord(recordFile);
  const families: readonly Family[] = [
    ...new Set(networks.map(({ address }) => (address.length === 4 ? 'ipv4' : 'ipv6'))),
  ];
  const onlyPeers = families.filter((family) => !isForwarding(family));
  const undo = (): Promise<void> => undoRecord(recordFile);
  let settings: Settings = [];
  try {
    writeRecord(recordFile, { place: place(), interfaceName, settings });
    // The firewall comes first: nothing is forwarded that it has not seen.
    const script = firewallScript({ ...options, onlyPeers });
    await nft(script);
    for (const family of families) {
      settings = [...settings, ...forwardingSettings(family)];
      writeRecord(recordFile, { place: place(), interfaceName, settings });
      enableForwarding(family);
    }
    const foreign = await droppingChains();
    const notes = foreign.map(
      (chain) =>
        `the firewall chain '${chain}' drops forwarded packets: it is left as it is; let ${interfaceName} through there`,
    );
    let whole = await listTable(interfaceName);
    const putBack = async (): Promise<boolean> => {
      if ((await listTable(interfaceName)) === whole) return false;
      await nft(script);
      whole = await listTable(interfaceName);
      return true;
    };
    return { notes, restore: putBack, undo };
  } catch (error) {
    restore(settings);
    await undo();
    if (error instanceof RefusedError) throw error;
    throw new RefusedError(`forwarding cannot be set up: ${errorLine(error)}`, { cause: error });
  }
}

/** What the record of a server says in words; nothing when there is none or when it is of another place. */
export function recordedChanges(path: string): readonly string[] {
  const record = readRecord(path);
  if (record?.place !== place()) return [];
  return [`nftables table inet ${tableOf(record.interfaceName)}`, ...switchedOn(record.settings)];
}

/** Undoes what the record of a server says and removes it; does nothing when there is none or when it is of another place. */
export async function undoRecord(path: string): Promise<void> {
  const record = readRecord(path);
  if (record?.place === place()) {
    restore(record.settings);
    await nft(removalScript(record.interfaceName));
  }
  removeFile(path);
}

function writeRecord(path: string, record: HostRecord): void {
  replaceFile(path, JSON.stringify(record));
}

/** The file lies in the server's own folder, which nobody else may enter. */
function readRecord(path: string): HostRecord | undefined {
  try {
    const record: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return isRecord(record) ? record : undefined;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isRecord(value: unknown): value is HostRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'place' in value &&
    'interfaceName' in value &&
    typeof value.interfaceName === 'string' &&
    'settings' in value &&
    isSettings(value.settings)
  );
}

function place(): string {
  return Object.values(networkNamespace()).join(' ');
}
