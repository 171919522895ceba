/** What a link carries and loses: nft rulesets with named counters, and lengths of captured datagrams, in a host of a lab. */
import { until } from './lab.ts';
import type { Host, Running } from './lab.ts';

export interface Counter {
  readonly packets: number;
  readonly bytes: number;
}

/** Loads an nft ruleset into the host's namespace, whose own it is alone. */
export async function firewall(host: Host, ruleset: string): Promise<void> {
  await host.must('nft', ['-f', '-'], { input: `${ruleset}\n` });
}

/** Has the host send each UDP datagram to this IPv4 address twice, over this interface. */
export async function sendTwice(host: Host, interfaceName: string, target: string): Promise<void> {
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
