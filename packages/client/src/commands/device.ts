import { forbidCoreDumps, type LaneKind } from '@sealane/tunnel';
import type { ExitCode } from '../errors.ts';
import { freeControlPath, hostTunnel, inForeground, interfacePath } from '../hosting.ts';
import { eventLine } from '../output/events.ts';
import { note } from '../output/terminal.ts';
import { Stop } from '../system/stop.ts';
import { UndoStack } from '../system/undo.ts';
import { detach, goOnAlone } from '../up/detach.ts';

export interface DeviceOptions {
  readonly lane: LaneKind | 'auto';
  readonly lanes?: number;
  readonly detach?: boolean;
  /** For the process that waits for it. */
  readonly readyOnStdout?: boolean;
}

const DEFAULT_MTU = 1_420;

/**
 * An interface that waits to be configured with `wg`, until a signal, `sealane down` or its deletion. Like wireguard-go it takes one that was
 * made beforehand, perhaps for a user without privileges (`ip tuntap add`), but leaves that as it was.
 */
export async function device(name: string, options: DeviceOptions): Promise<ExitCode> {
  const path = interfacePath(name);
  if (options.detach === true) {
    await freeControlPath(name);
    return detach(name, argumentsOf(name, options));
  }
  forbidCoreDumps();
  const stop = new Stop();
  const undo = new UndoStack();
  return inForeground(name, stop, undo, async () => {
    const tunnel = await hostTunnel({ name, mtu: DEFAULT_MTU, attach: true, ...options }, stop, undo);
    tunnel.events((event) => {
      const line = eventLine(event);
      if (line !== undefined) note(`${name}: ${line}`);
    });
    const { crypto } = await tunnel.status();
    note(
      `sealane: ${name} is ready (lane ${tunnel.lane}, crypto ${crypto}): configure it with 'wg set ${name}' (${path})`,
    );
    if (options.readyOnStdout === true) goOnAlone();
  });
}

function argumentsOf(name: string, { lane, lanes }: DeviceOptions): readonly string[] {
  return ['device', name, `--lane=${lane}`, ...(lanes === undefined ? [] : [`--lanes=${lanes}`])];
}
