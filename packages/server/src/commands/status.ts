import { formatBytes, type StatusReport } from '@sealane/tunnel';
import { type Leftovers, leftBehind } from '../hosting/leftovers.ts';
import { print, printJson, table } from '../output/print.ts';
import { styleFor } from '../output/style.ts';
import { stateFolder, type StateFolder } from '../state/folder.ts';
import { readRegistry, type Registry } from '../state/registry-file.ts';
import { liveStatus } from '../running/live.ts';

const NOTHING: Leftovers = { changes: [], notes: [] };

/** Says whether a server runs on the folder, and how it does. */
export async function status(options: { readonly state: string; readonly json: boolean }): Promise<void> {
  const folder = stateFolder(options.state);
  const registry = readRegistry(folder);
  const live = await liveStatus(folder);
  const left = live === undefined ? await leftBehind(folder) : NOTHING;
  if (options.json) {
    const { endpoint, pool, dns, mtu } = registry.server;
    const base = { state: folder.path, endpoint, pool, dns, mtu, peers: registry.peers.length };
    await printJson({
      ...base,
      running: live !== undefined,
      ...(live === undefined ? { left: left.changes, notes: left.notes } : { live }),
    });
  } else {
    await print(statusText(folder, registry, live, left));
  }
}

function statusText(
  folder: StateFolder,
  registry: Registry,
  live: StatusReport | undefined,
  { changes, notes }: Leftovers,
): string {
  const style = styleFor(process.stdout);
  const base = [
    ['state', folder.path],
    ['endpoint', registry.server.endpoint],
    ['pool', registry.server.pool.join(', ')],
    ['peers', peersText(registry, live)],
  ];
  if (live === undefined) {
    const who = process.geteuid?.() === 0 ? '' : ' as root';
    const remedy = `'sealaned down --state ${folder.path}'${who} undoes it`;
    const left = changes.length === 0 ? [] : [['left behind', `${changes.join(', ')}: ${remedy}`]];
    const rows = [...base, ...left, ...notes.map((text) => ['note', text])];
    const state = changes.length === 0 ? 'not running' : 'was killed';
    return `${style.yellow(state)}\n${table(rows.map((row) => [' ', ...row]))}`;
  }
  const received = live.peers.reduce((sum, peer) => sum + peer.rxBytes, 0);
  const sent = live.peers.reduce((sum, peer) => sum + peer.txBytes, 0);
  const drops = nonZero(live.drops);
  const faults = nonZero(live.faults);
  const rows = [
    ...base,
    ['public key', live.publicKey ?? 'none'],
    ['UDP port', String(live.listenPort)],
    ['interface', `${live.name}, MTU ${live.mtu}`],
    ['crypto', live.crypto],
    ['lane', live.lane],
    ['received', formatBytes(received)],
    ['sent', formatBytes(sent)],
    ...(live.underLoad ? [['under load', 'yes: handshakes need a proof of address']] : []),
    ...(drops.length > 0 ? [['dropped', drops.join(', ')]] : []),
    ...(faults.length > 0 ? [['faults', faults.join(', ')]] : []),
    ...live.notes.map((text) => ['note', text]),
  ];
  return `${style.green('running')}\n${table(rows.map((row) => [' ', ...row]))}`;
}

function peersText(registry: Registry, live: StatusReport | undefined): string {
  if (live === undefined) return String(registry.peers.length);
  const connected = live.peers.filter((peer) => peer.session !== undefined).length;
  return `${registry.peers.length}, ${connected} with a session`;
}

function nonZero(counts: Readonly<Record<string, number>>): readonly string[] {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${name} ${count}`);
}
