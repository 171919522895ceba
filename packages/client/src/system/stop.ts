import { closeSync, openSync } from 'node:fs';

export type StopReason =
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }
  /** Somebody asked for it on the control socket. */
  | { readonly kind: 'shutdown' }
  /** The interface is gone, or the tunnel failed with an error. */
  | { readonly kind: 'closed'; readonly error?: Error };

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Thrown out of a step when the command has to end before it is done. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super('stopped');
    this.reason = reason;
  }
}

export interface StopOptions {
  /** Called on SIGHUP, which ends the command otherwise. */
  readonly onHangup?: () => void;
  /**
   * For a command that leaves nothing behind: how long a good end may take, in milliseconds. After that, and at once on a
   * further signal, the signal has its ordinary effect.
   */
  readonly graceMs?: number;
}

/** Collects the reasons for which a command in the foreground ends; the first one counts. */
export class Stop {
  readonly #abort = new AbortController();
  readonly #options: StopOptions;
  readonly #hadTerminal = hasTerminal();
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const { onHangup, graceMs } = this.#options;
    // The same signal says that the terminal is gone and, to a program without one, that it should read its files again.
    const lost = this.#hadTerminal && !hasTerminal();
    if (signal === 'SIGHUP' && onHangup !== undefined && !lost) {
      onHangup();
      return;
    }
    const isFirst = !this.#abort.signal.aborted;
    this.request({ kind: 'signal', signal });
    if (graceMs === undefined) return;
    if (isFirst) setTimeout(() => this.#endBy(signal), graceMs).unref();
    else this.#endBy(signal);
  };

  /** From here on signals end the command in good order instead of killing it. */
  constructor(options: StopOptions = {}) {
    this.#options = options;
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }

  get reason(): StopReason | undefined {
    return this.#abort.signal.aborted ? (this.#abort.signal.reason as Stopped).reason : undefined;
  }

  /** Aborted with a `Stopped` error as its reason. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  request(reason: StopReason): void {
    if (!this.#abort.signal.aborted) this.#abort.abort(new Stopped(reason));
  }

  /** Call between steps. Throws Stopped. */
  check(): void {
    this.#abort.signal.throwIfAborted();
  }

  /** Resolves when the command is to end. */
  async requested(): Promise<StopReason> {
    const { signal } = this.#abort;
    // A promise alone keeps no process alive.
    const alive = setInterval(() => undefined, 2 ** 30);
    if (!signal.aborted) {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    }
    clearInterval(alive);
    return (signal.reason as Stopped).reason;
  }

  /** Waits this long or until the command is to end. */
  async sleep(milliseconds: number): Promise<void> {
    const { signal } = this.#abort;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener('abort', done);
    });
  }

  /** Gives the signals back to the system. */
  dispose(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }

  /** Not even process.exit is sure to end it: that waits for a name lookup on another thread. */
  #endBy(signal: NodeJS.Signals): void {
    this.dispose();
    process.kill(process.pid, signal);
  }
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
