/** A stack of ours opposite lwIP's, which runs as a process of its own; packets between them go through a relay. */
import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { missing } from '../support/lab.ts';
import { Relay, type RelayOptions } from './relay.ts';

export const LWIP = { 4: '192.0.2.1', 6: 'fd00:5ea::1' } as const;
/** Echoes datagrams. */
export const LWIP_ECHO_PORT = 7;

const SOURCE = fileURLToPath(new URL('lwip-peer.c', import.meta.url));
const HEADERS = '/usr/include/lwip';
const PACKET = 'P'.charCodeAt(0);
const HEAD = 3;

/** What came of one of lwIP's connections; `error` is lwIP's number, 0 when it ended in good order. */
export interface LwipTalk {
  readonly received: number;
  readonly wrongAt: number;
  readonly ended: boolean;
  readonly error: number;
}

/** Why lwIP cannot be had, or undefined when it can. */
export function missingLwip(): string | undefined {
  if (!existsSync(join(HEADERS, 'lwip/tcp.h'))) return 'needs liblwip-dev';
  return missing('cc');
}

/** Builds the program; returns its path, in a folder to be removed. */
export function buildLwip(): { readonly program: string; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'sealane-lwip-'));
  const program = join(folder, 'lwip-peer');
  execFileSync('cc', ['-O2', `-I${HEADERS}`, SOURCE, '-o', program, '-llwip']);
  return { program, remove: () => rmSync(folder, { recursive: true }) };
}

export class LwipPeer implements AsyncDisposable {
  readonly relay: Relay;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #talks: LwipTalk[] = [];
  #pending: Uint8Array = new Uint8Array(0);
  #isReady = false;
  #wake: () => void = () => undefined;

  private constructor(program: string, options: RelayOptions) {
    this.#child = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdin.on('error', () => undefined);
    this.relay = new Relay(options, (packet) => this.#write('P', packet));
    this.#child.stdout.on('data', (bytes: Uint8Array) => this.#read(bytes));
  }

  static async open(program: string, options: RelayOptions): Promise<LwipPeer> {
    const peer = new LwipPeer(program, options);
    while (!peer.#isReady) await peer.#something();
    return peer;
  }

  /** Says one of the commands that the program's head lists. */
  command(text: string): void {
    this.#write('C', Buffer.from(text));
  }

  /** The first `count` connections that are over. */
  async talks(count = 1): Promise<readonly LwipTalk[]> {
    while (this.#talks.length < count) await this.#something();
    return this.#talks.splice(0, count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.relay.close();
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await exited;
  }

  #something(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error('lwIP has ended');
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #write(kind: 'P' | 'C', bytes: Uint8Array): void {
    const frame = Buffer.alloc(HEAD + bytes.length, kind);
    frame.writeUInt16BE(bytes.length, 1);
    frame.set(bytes, HEAD);
    this.#child.stdin.write(frame);
  }

  #read(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#pending, bytes]);
    let at = 0;
    while (at + HEAD <= all.length && at + HEAD + all.readUInt16BE(at + 1) <= all.length) {
      const end = at + HEAD + all.readUInt16BE(at + 1);
      const content = all.subarray(at + HEAD, end);
      if (all[at] === PACKET) this.relay.receive(content);
      else this.#reported(content.toString());
      at = end;
    }
    this.#pending = all.subarray(at);
    this.relay.turn();
  }

  #reported(text: string): void {
    const numbers = text.split(' ').slice(2).map(Number) as [number, number, number, number];
    if (text === 'ready') this.#isReady = true;
    else this.#talks.push({ received: numbers[0], wrongAt: numbers[1], ended: numbers[2] === 1, error: numbers[3] });
    this.#wake();
  }
}
