/** Tunnels whose process is gone and whose changes to the system may not be. */
import { CliError, errorLine } from '../errors.ts';
import { journalNames, readJournal } from '../system/journal.ts';
import { isTaken } from '../system/name-lock.ts';
import { describeStep } from '../system/steps.ts';
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

export interface KilledTunnels {
  readonly killed: readonly Killed[];
  /** What cannot be told, a line each: a record that cannot be trusted hides no other. */
  readonly unknown: readonly string[];
}

/** All in this network namespace, and those of others that left name servers. */
export function killedTunnels(): KilledTunnels {
  const killed: Killed[] = [];
  const unknown: string[] = [];
  try {
    for (const name of journalNames()) {
      try {
        const found = killedTunnel(name);
        if (found !== undefined) killed.push(found);
      } catch (error) {
        unknown.push(lineOf(error));
      }
    }
  } catch (error) {
    unknown.push(lineOf(error));
  }
  return { killed, unknown };
}

function lineOf(error: unknown): string {
  if (!(error instanceof CliError)) throw error;
  return errorLine(error);
}

export function killedTunnel(name: string): Killed | undefined {
  const record = readJournal(name);
  if (record === undefined || isTaken(name)) return undefined;
  const { ended, steps, user } = record;
  const killSwitch = steps.some((step) => isKillSwitch(name, step));
  const stands = `its changes still stand${killSwitch ? ', the kill switch too' : ''}`;
  const killed = steps.length === 0 ? 'was killed' : `was killed and ${stands}`;
  const left = steps.map(describeStep).join(', ') || 'only its record';
  const what = ended ? `ended${user === undefined ? '' : ` as user ${user}`} and left behind: ${left}` : killed;
  return { name, ended, killSwitch, what, remedy: `sealane down ${name}` };
}
