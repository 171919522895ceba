/** Tunnels whose process is gone and whose changes to the system may not be. */
import { journalNames, readJournal } from '../system/journal.ts';
import { isTaken } from '../system/name-lock.ts';
import { isKillSwitch } from './leftovers.ts';

export interface Killed {
  readonly name: string;
  /** Its end undid what it could, and noted what it could not. */
  readonly ended: boolean;
  /** Nothing but what it let out leaves this computer yet. */
  readonly killSwitch: boolean;
  /** In words. */
  readonly what: string;
  readonly remedy: string;
}

/** All in this network namespace, and those of others that left name servers. CliError for a file that cannot be trusted. */
export function killedTunnels(): readonly Killed[] {
  return journalNames().flatMap((name) => killedTunnel(name) ?? []);
}

export function killedTunnel(name: string): Killed | undefined {
  const record = readJournal(name);
  if (record === undefined || isTaken(name)) return undefined;
  const { ended, steps, user } = record;
  const killSwitch = steps.some((step) => isKillSwitch(name, step));
  const changes = `was killed and its changes still stand${killSwitch ? ', the kill switch too' : ''}`;
  const unknown = `ended or was killed as user ${user}: some of its changes may still stand${killSwitch ? ', if killed the kill switch too' : ''}`;
  const killed = steps.length === 0 ? 'was killed' : user === undefined ? changes : unknown;
  const what = ended ? 'ended and left something behind' : killed;
  return { name, ended, killSwitch, what, remedy: `sealane down ${name}` };
}
