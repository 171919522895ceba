/** A tunnel's process gives up what it does not need before it loads anything else: it starts anew for that. */
import { readFileSync } from 'node:fs';
import { BECOMES_USER, CAPABILITY, confine, forbidCoreDumps } from '@sealane/tunnel';
import { configPath, isPipe } from '../config-path.ts';

const LAST_PRIVILEGED_PORT = 1_023;
/** What only the parser can judge: commands, for which a process that has all privileges is needed first, and a port that asks for one more. */
const UNDECIDED = /(pre|post)(up|down)|listenport\s*=\s*0*[0-9]{1,4}\b/i;

/** The capabilities of a tunnel that runs. */
export function capabilitiesFor(listenPort: number | undefined): readonly number[] {
  const { netAdmin, netBindService } = CAPABILITY;
  return (listenPort ?? 0) > 0 && listenPort! <= LAST_PRIVILEGED_PORT ? [netBindService, netAdmin] : [netAdmin];
}

/** An interface that `wg` configures may be given any port. */
export function confineDevice(): void {
  confine([CAPABILITY.netBindService, CAPABILITY.netAdmin]);
}

/** What needs no interface: a proxy may still be given any port. */
export function confineUserspace(): void {
  confine([CAPABILITY.netBindService]);
  forbidCoreDumps();
}

/** `sealane up`, when a glance at its file shows that it may; errors are left to those who read it properly. */
export function confineAtOnce(given: string, user: string | undefined): void {
  if (isPlain(configPath(given))) confine([...capabilitiesFor(undefined), ...(user === undefined ? [] : BECOMES_USER)]);
}

function isPlain(path: string): boolean {
  // What comes through a pipe has no commands: they are refused.
  if (isPipe(path)) return true;
  try {
    return !UNDECIDED.test(readFileSync(path, 'utf8'));
  } catch {
    return false;
  }
}
