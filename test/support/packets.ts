/** What a link carries and loses: nft rulesets with named counters, and lengths of captured datagrams, in a host of a lab. */
import { until } from './lab.ts';
import type { Host, Running } from './lab.ts';
import { type Implementation, INNER, OUTER, type Pair, ping } from './wireguard.ts';

export interface Counter {
  readonly packets: number;
  readonly bytes: number;
}

/** Loads an nft ruleset into the host's namespace, whose own it is alone. */
export async function firewall(host: Host, ruleset: string): Promise<void> {
  await host.must('nft', ['-f', '-'], { input: `${ruleset}\n` });
}

/**
 * Has both ends send each datagram to the other twice, from the first handshake on. With wireguard-go there is a session when this resolves:
 * it may take both copies of an initiation, on a thread each, and answer twice; then it has another session than its peer, which
 * notices after 15 s.
 */
export async function sendAllTwice({ a, b }: Pair, implementations: readonly Implementation[]): Promise<void> {
  await sendTwice(a.host, 'va', OUTER.b4);
  await sendTwice(b.host, 'vb', OUTER.a4);
  if (!implementations.includes('wireguard-go')) return;
  await until('a session', async () => (await ping(a.host, INNER.b4, { count: 1 })).received === 1, 45_000);
}

async function sendTwice(host: Host, interfaceName: string, target: string): Promise<void> {
  await firewall(
    host,
    `table ip twice {
      chain out { type filter hook output priority 0
        ip daddr ${target} meta l4proto udp dup to ${target} device ${interfaceName}
      }
    }`,
  );
}

/** Reads a named counter of the table `inet lab`. */
export async function counter(host: Host, name: string): Promise<Counter> {
  const answer = JSON.parse(await host.must('nft', ['-j', 'list', 'counter', 'inet', 'lab', name])) as {
    readonly nftables: readonly { readonly counter?: Counter }[];
  };
  const found = answer.nftables.find((entry) => entry.counter !== undefined)?.counter;
  if (found === undefined) throw new Error(`no counter ${name} in ${host.name}`);
  return found;
}

/** Lengths of the UDP payloads that cross an interface, while it runs. */
export class Capture {
  readonly #tcpdump: Running;

  private constructor(tcpdump: Running) {
    this.#tcpdump = tcpdump;
  }

  static async start(host: Host, interfaceName: string, filter: string): Promise<Capture> {
    const options = ['-i', interfaceName, '-n', '-l', '-q', '-t', '--immediate-mode', '-s', '128'];
    const tcpdump = host.start('tcpdump', [...options, filter]);
    await until('tcpdump to listen', () => tcpdump.stderr.includes('listening on'));
    return new Capture(tcpdump);
  }

  get lengths(): number[] {
    return [...this.#tcpdump.stdout.matchAll(/UDP,.* length (\d+)/g)].map(([, length]) => Number(length));
  }

  async stop(): Promise<void> {
    await this.#tcpdump.stop('SIGTERM');
  }
}
