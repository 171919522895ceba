/** WireGuard devices in hosts of a lab: ours and wireguard-go's behind one interface, both configured with the stock `wg`. */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execute, missing, until } from './lab.ts';
import type { Host, Lab, Running } from './lab.ts';

/** 'sealane' runs in the fastest lane that this system allows. */
export type Implementation = 'sealane' | 'sealane portable' | 'wireguard-go';

/** Each lane of ours in both roles, with the other's implementation and with the other lane. */
export const PAIRS: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['wireguard-go', 'sealane'],
  ['sealane portable', 'sealane'],
];

/** Why these implementations cannot run here with these programs, or undefined when they can. */
export function missingFor(
  implementations: readonly Implementation[],
  ...programs: readonly string[]
): string | undefined {
  return missing('wg', ...(implementations.includes('wireguard-go') ? ['wireguard-go'] : []), ...programs);
}

/** The command. */
export const SEALANE: string = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));

export interface KeyPair {
  readonly privateKey: string;
  readonly publicKey: string;
}

export async function keyPair(): Promise<KeyPair> {
  const privateKey = (await execute('wg', ['genkey'])).stdout.trim();
  const publicKey = (await execute('wg', ['pubkey'], { input: privateKey })).stdout.trim();
  return { privateKey, publicKey };
}

export async function presharedKey(): Promise<string> {
  return (await execute('wg', ['genpsk'])).stdout.trim();
}

export interface PeerSettings {
  readonly publicKey: string;
  readonly presharedKey?: string;
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  readonly keepalive?: number;
}

export interface DeviceSettings {
  readonly keys: KeyPair;
  readonly port: number;
  readonly addresses: readonly string[];
  readonly mtu?: number;
  readonly peers: readonly PeerSettings[];
}

/** Milliseconds; a busy machine takes its time. */
const LONGEST_START = 45_000;

/** Where `wg` looks for the control socket. */
export function socketPath(name: string): string {
  return `/var/run/wireguard/${name}.sock`;
}

/** A running device: its process and its interface, up and addressed. */
export class WireguardDevice {
  readonly lab: Lab;
  readonly host: Host;
  readonly name: string;
  readonly process: Running;

  private constructor(lab: Lab, host: Host, name: string, process: Running) {
    this.lab = lab;
    this.host = host;
    this.name = name;
    this.process = process;
  }

  static async start(
    lab: Lab,
    host: Host,
    implementation: Implementation,
    suffix: string,
    settings: DeviceSettings,
    flags: readonly string[] = [],
    nodeFlags: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<WireguardDevice> {
    const device = await WireguardDevice.open(lab, host, implementation, suffix, flags, nodeFlags, env);
    const { name } = device;
    await device.setConfig(settings);
    for (const address of settings.addresses) {
      const flag = address.includes(':') ? ['nodad'] : [];
      await host.must('ip', ['addr', 'add', address, 'dev', name, ...flag]);
    }
    await host.must('ip', ['link', 'set', 'mtu', String(settings.mtu ?? 1420), 'up', 'dev', name]);
    // The sockets open when the link is up; what came before that would be refused.
    await until(
      `${name} to listen on UDP port ${settings.port}`,
      async () => (await host.must('ss', ['-Hlun', 'sport', '=', `:${settings.port}`])) !== '',
    );
    for (const peer of settings.peers) {
      for (const prefix of peer.allowedIps) await host.run('ip', ['route', 'add', prefix, 'dev', name]);
    }
    return device;
  }

  /** Starts the process and waits until it can be configured; its interface is down and without addresses. */
  static async open(
    lab: Lab,
    host: Host,
    implementation: Implementation,
    suffix: string,
    flags: readonly string[] = [],
    nodeFlags: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<WireguardDevice> {
    const name = lab.interfaceName(suffix);
    const lane = implementation === 'sealane portable' ? ['--lane', 'portable'] : [];
    const process =
      implementation === 'wireguard-go'
        ? host.start('wireguard-go', ['-f', name], { LOG_LEVEL: 'error' })
        : host.start('node', [...nodeFlags, SEALANE, 'device', name, ...lane, ...flags], {
            STATE_DIRECTORY: lab.folder,
            ...env,
          });
    const ended = process.exit.then((code) => {
      // wireguard-go writes its errors to standard output.
      throw new Error(`${implementation} exited ${code} at its start: ${process.stderr}${process.stdout}`);
    });
    const ready = until(
      `${implementation} to be ready`,
      async () =>
        // Not by asking `wg`: it removes a socket that is there and does not listen yet.
        implementation === 'wireguard-go'
          ? (await host.must('ss', ['-Hlx', 'src', `/var/run/wireguard/${name}.sock`])) !== ''
          : process.stderr.includes('is ready'),
      LONGEST_START,
    );
    await Promise.race([ready, ended]);
    ended.catch(() => undefined);
    return new WireguardDevice(lab, host, name, process);
  }

  /** The lane that ours chose; undefined for others. */
  get lane(): string | undefined {
    return /is ready \(lane (\w+)/.exec(this.process.stderr)?.[1];
  }

  get socketPath(): string {
    return socketPath(this.name);
  }

  async setConfig(settings: DeviceSettings): Promise<void> {
    const lines = ['[Interface]', `PrivateKey = ${settings.keys.privateKey}`, `ListenPort = ${settings.port}`];
    for (const peer of settings.peers) {
      lines.push('[Peer]', `PublicKey = ${peer.publicKey}`, `AllowedIPs = ${peer.allowedIps.join(', ')}`);
      if (peer.presharedKey !== undefined) lines.push(`PresharedKey = ${peer.presharedKey}`);
      if (peer.endpoint !== undefined) lines.push(`Endpoint = ${peer.endpoint}`);
      if (peer.keepalive !== undefined) lines.push(`PersistentKeepalive = ${peer.keepalive}`);
    }
    const file = await this.lab.file(`${this.name}.conf`, `${lines.join('\n')}\n`);
    await this.host.must('wg', ['setconf', this.name, file]);
  }

  /** Changes the MTU of the interface and waits until the device works with it. */
  async setMtu(mtu: number): Promise<void> {
    await this.host.must('ip', ['link', 'set', 'dev', this.name, 'mtu', String(mtu)]);
    // Others cannot be asked; wireguard-go hears of it from the kernel.
    if (this.lane === undefined) return;
    await until(`${this.name} to take an MTU of ${mtu}`, async () =>
      (await control(this.socketPath, ['status=1\n\n'])).includes(`"mtu":${mtu},`),
    );
  }

  wg(...args: readonly string[]): Promise<string> {
    return this.host.must('wg', args);
  }

  /** Received and sent bytes of one peer, or of the first. */
  async transfer(publicKey = ''): Promise<{ readonly rx: number; readonly tx: number }> {
    const lines = (await this.wg('show', this.name, 'transfer')).trim().split('\n');
    const [, rx, tx] = lines.find((line) => line.startsWith(publicKey))?.split('\t') ?? [];
    return { rx: Number(rx), tx: Number(tx) };
  }

  async latestHandshake(): Promise<number> {
    return Number((await this.wg('show', this.name, 'latest-handshakes')).trim().split('\t')[1]);
  }

  async endpoint(): Promise<string> {
    return (await this.wg('show', this.name, 'endpoints')).trim().split('\t')[1] ?? '';
  }
}

/** Writes the pieces of an operation to a control socket one by one; resolves to all answers. */
export async function control(path: string, pieces: readonly string[]): Promise<string> {
  const socket = connect(path);
  const answer = text(socket);
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    if (pieces.length > 1) await sleep(1);
  }
  socket.end();
  return answer;
}

export interface PairOptions {
  readonly presharedKey?: string;
  /** Outer addresses: family 4 or 6. */
  readonly outer?: 4 | 6;
  readonly mtu?: number;
  /** Further arguments of ours. */
  readonly flags?: readonly string[];
  /** Further arguments of the Node.js that runs ours. */
  readonly nodeFlags?: readonly string[];
  /** More environment for an end that is ours. */
  readonly aEnv?: Readonly<Record<string, string>>;
  readonly bEnv?: Readonly<Record<string, string>>;
  /** The initiating side knows the other's endpoint; by default only `a` does. */
  readonly bothEndpoints?: boolean;
}

export interface Pair {
  readonly a: WireguardDevice;
  readonly b: WireguardDevice;
  readonly aKeys: KeyPair;
  readonly bKeys: KeyPair;
}

/** Inner addresses of the two ends. */
export const INNER = { a4: '10.77.0.1', b4: '10.77.0.2', a6: 'fd77::1', b6: 'fd77::2' } as const;
/** Outer addresses of the two hosts. */
export const OUTER = { a4: '192.168.77.1', b4: '192.168.77.2', a6: 'fd99::1', b6: 'fd99::2' } as const;

/** Two hosts on a veth pair with a device each; `a` begins. */
export async function wireguardPair(
  lab: Lab,
  implementations: readonly [Implementation, Implementation],
  options: PairOptions = {},
): Promise<Pair> {
  const [hostA, hostB] = [await lab.host('a'), await lab.host('b')];
  await lab.join(hostA, 'va', [`${OUTER.a4}/24`, `${OUTER.a6}/64`], hostB, 'vb', [`${OUTER.b4}/24`, `${OUTER.b6}/64`]);
  const [aKeys, bKeys] = [await keyPair(), await keyPair()];
  const psk = options.presharedKey === undefined ? {} : { presharedKey: options.presharedKey };
  const mtu = options.mtu === undefined ? {} : { mtu: options.mtu };
  const endpointOf = (v4: string, v6: string, port: number): string =>
    options.outer === 6 ? `[${v6}]:${port}` : `${v4}:${port}`;
  const b = await WireguardDevice.start(
    lab,
    hostB,
    implementations[1],
    'b',
    {
      keys: bKeys,
      port: 51002,
      addresses: [`${INNER.b4}/24`, `${INNER.b6}/64`],
      ...mtu,
      peers: [
        {
          publicKey: aKeys.publicKey,
          allowedIps: [`${INNER.a4}/32`, `${INNER.a6}/128`],
          ...(options.bothEndpoints === true && { endpoint: endpointOf(OUTER.a4, OUTER.a6, 51001) }),
          ...psk,
        },
      ],
    },
    options.flags,
    options.nodeFlags,
    options.bEnv,
  );
  const a = await WireguardDevice.start(
    lab,
    hostA,
    implementations[0],
    'a',
    {
      keys: aKeys,
      port: 51001,
      addresses: [`${INNER.a4}/24`, `${INNER.a6}/64`],
      ...mtu,
      peers: [
        {
          publicKey: bKeys.publicKey,
          endpoint: endpointOf(OUTER.b4, OUTER.b6, 51002),
          allowedIps: [`${INNER.b4}/32`, `${INNER.b6}/128`],
          ...psk,
        },
      ],
    },
    options.flags,
    options.nodeFlags,
    options.aEnv,
  );
  return { a, b, aKeys, bKeys };
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  readonly duplicates: number;
}

/** Pings of a host that run and that were begun, to know which had the host to themselves. */
const pings = new WeakMap<Host, { running: number; begun: number }>();
const LATEST_REPLY = 2_000;

/**
 * Real `ping` from a host; resolves to its own counts. It waits for the last replies no longer than two round trips, which
 * a busy machine may exceed: late ones are found in the kernel's counters, unless other pings ran in the host meanwhile.
 */
export async function ping(
  host: Host,
  target: string,
  { count = 5, interval = 0.05, size = 56, timeout = 60_000, extra = [] as readonly string[] } = {},
): Promise<PingResult> {
  const mine = pings.get(host) ?? { running: 0, begun: 0 };
  pings.set(host, mine);
  const number = ++mine.begun;
  const alone = mine.running === 0;
  mine.running += 1;
  try {
    const before = await echoReplies(host);
    const args = ['-n', '-q', '-c', String(count), '-i', String(interval), '-s', String(size), '-W', '2', ...extra];
    const result = await host.run('ping', [...args, target], { timeout });
    const summary = /(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?/.exec(result.stdout);
    if (summary === null) throw new Error(`ping ${target}: ${result.stderr}${result.stdout}`);
    const [sent, counted, duplicates] = [Number(summary[1]), Number(summary[2]), Number(summary[3] ?? 0)];
    let received = counted;
    const end = Date.now() + LATEST_REPLY;
    while (alone && counted > 0 && received < sent && Date.now() < end) {
      await sleep(50);
      const replies = (await echoReplies(host)) - before - duplicates;
      if (mine.begun !== number) break;
      received = Math.min(sent, Math.max(counted, replies));
    }
    return { sent, received, duplicates };
  } finally {
    mine.running -= 1;
  }
}

/** Echo replies that a host has received, of both address families. */
async function echoReplies(host: Host): Promise<number> {
  const { stdout } = await host.run('cat', ['/proc/net/snmp', '/proc/net/snmp6']);
  const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Icmp: '));
  const index = names?.split(' ').indexOf('InEchoReps') ?? -1;
  const six = /^Icmp6InEchoReplies\s+(\d+)/m.exec(stdout)?.[1];
  return Number(values?.split(' ')[index] ?? 0) + Number(six ?? 0);
}
