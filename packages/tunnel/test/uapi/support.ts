/** Control sockets for tests: a tunnel of this process behind one, raw conversations with any, and the stock `wg`. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ControlHandlers, memoryPair, openTunnel, serveControl, type Tunnel } from '@sealane/tunnel';
import { nobleCrypto } from '@sealane/protocol';

export interface Served extends AsyncDisposable {
  readonly tunnel: Tunnel;
  /** Holds nothing but the socket. */
  readonly folder: string;
  readonly path: string;
}

/** A tunnel without traffic, named like its socket. */
export async function serveTunnel(handlers: ControlHandlers = {}): Promise<Served> {
  const folder = await temporaryFolder();
  const path = join(folder, 'wg0.sock');
  const tunnel = await openTunnel({ device: memoryPair({ name: 'wg0' })[0], crypto: nobleCrypto });
  const control = await serveControl(tunnel, path, handlers);
  return {
    tunnel,
    folder,
    path,
    [Symbol.asyncDispose]: async () => {
      await control.close();
      await tunnel.close();
      await rm(folder, { recursive: true });
    },
  };
}

export function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'sealane-uapi-'));
}

/** One connection to a control socket, as bytes. */
export class Conversation {
  readonly socket: Socket;
  #received = '';
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#received += text;
      this.#wake();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    socket.on('end', end).on('error', end).on('close', end);
  }

  static open(path: string): Promise<Conversation> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new Conversation(socket));
      });
    });
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** The next whole answer, or what came before the other side hung up. */
  async answer(): Promise<string> {
    for (;;) {
      const end = this.#received.search(/(?:^|\n)errno=-?\d+\n\n/);
      if (end >= 0) {
        const length = this.#received.indexOf('\n\n', end) + 2;
        const text = this.#received.slice(0, length);
        this.#received = this.#received.slice(length);
        return text;
      }
      if (this.#ended) return this.#received;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async ask(text: string): Promise<string> {
    this.send(text);
    return this.answer();
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request on a connection of its own. */
export async function ask(path: string, text: string): Promise<string> {
  const conversation = await Conversation.open(path);
  try {
    return await conversation.ask(text);
  } finally {
    conversation.close();
  }
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program in a mount and network namespace of its own, where `folder` is /run/wireguard: it sees the sockets in
 * there and no interface of this machine.
 */
export function runIsolated(folder: string, program: string, args: readonly string[], input = ''): Promise<Ran> {
  const script =
    'mount -t tmpfs tmpfs /run && mkdir /run/wireguard && mount --bind "$0" /run/wireguard && ip link set lo up && cat | "$@"';
  // Through cat, because programs can open a pipe by the name /dev/stdin, and what Node makes is none.
  const child = spawn('unshare', ['--mount', '--net', 'sh', '-c', script, folder, program, ...args]);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined).end(input);
  return new Promise((resolve) => {
    child.once('close', (code) => resolve({ code: code ?? 128, stdout, stderr }));
  });
}
