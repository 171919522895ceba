import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatKey, generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import { EchoHost, memoryPair, openTunnel, parseAddress, parsePrefix, type Tunnel } from '@sealane/tunnel';

export const SEALANE: string = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));

export const SEALANED: string = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that runs, and what it has written so far. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  stdout = '';
  stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  /** Waits until standard error says this; fails when the program ends before. */
  async says(text: string): Promise<void> {
    let ended = false;
    void this.ended.then(() => (ended = true));
    while (!this.stderr.includes(text)) {
      if (ended) throw new Error(`ended without saying '${text}': ${this.stdout}${this.stderr}`);
      await sleep(20);
    }
  }
}

export function start(command: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const [program, ...args] = command;
  return new Running(spawn(program!, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] }));
}

export async function run(command: readonly string[], input = '', env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const running = start(command, env);
  running.child.stdin?.on('error', () => undefined);
  running.child.stdin?.end(input);
  return running.ended;
}

/** Runs a command that has to succeed; resolves to what it printed. */
export async function must(command: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await run(command, input);
  if (code !== 0) throw new Error(`'${command.join(' ')}' ended with ${code}: ${stderr}`);
  return stdout;
}

export function sealane(args: readonly string[], input = '', env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return run([process.execPath, SEALANE, ...args], input, env);
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A temporary folder with configuration files in it. */
export class Folder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'sealane-test-')));
  }

  async write(name: string, text: string, mode = 0o600): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, text, { mode });
    return path;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

export interface KeyPair {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
  /** In base64. */
  readonly privateText: string;
  readonly publicText: string;
}

export function newKeyPair(): KeyPair {
  const privateKey = generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length)));
  const publicKey = nobleCrypto.publicKey(privateKey);
  return { privateKey, publicKey, privateText: formatKey(privateKey), publicText: formatKey(publicKey) };
}

export interface Server {
  readonly keys: KeyPair;
  readonly port: number;
  readonly tunnel: Tunnel;
  close(): Promise<void>;
}

/** A peer on loopback that answers echo requests to 127.77.0.1 and knows one client at 127.77.0.2. */
export async function startServer(
  client: KeyPair,
  options: { readonly presharedKey?: Uint8Array; readonly echo?: boolean } = {},
): Promise<Server> {
  const keys = newKeyPair();
  const [near, far] = memoryPair({ mtu: 1_420, name: 'server' });
  const addresses = options.echo === false ? [] : [parseAddress('127.77.0.1')!];
  const host = new EchoHost({ device: far, addresses });
  const tunnel = await openTunnel({
    device: near,
    config: {
      privateKey: keys.privateKey,
      peers: [
        {
          publicKey: client.publicKey,
          allowedIps: [parsePrefix('127.77.0.2/32')!],
          ...(options.presharedKey === undefined ? {} : { presharedKey: options.presharedKey }),
        },
      ],
    },
  });
  const { listenPort } = await tunnel.status();
  const close = async (): Promise<void> => {
    await host.close();
    await tunnel.close();
  };
  return { keys, port: listenPort, tunnel, close };
}

export interface ClientFile {
  readonly client: KeyPair;
  readonly serverKey: string;
  readonly endpoint: string;
  readonly presharedKey?: string;
  readonly allowedIps?: string;
  readonly address?: string;
}

export function clientConfig({ client, serverKey, endpoint, ...options }: ClientFile): string {
  return [
    '[Interface]',
    `PrivateKey = ${client.privateText}`,
    `Address = ${options.address ?? '127.77.0.2/32'}`,
    '[Peer]',
    `PublicKey = ${serverKey}`,
    ...(options.presharedKey === undefined ? [] : [`PresharedKey = ${options.presharedKey}`]),
    `AllowedIPs = ${options.allowedIps ?? '127.77.0.0/24'}`,
    `Endpoint = ${endpoint}`,
    '',
  ].join('\n');
}
