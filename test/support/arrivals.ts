/** How fast packets come out of a tunnel over time, by the kernel's own count. */
import type { Host, Running } from './lab.ts';
import type { WireguardDevice } from './wireguard.ts';

/** Milliseconds over which a rate is taken. */
const WINDOW = 250;
const SAMPLER = `
const { readFileSync } = require('node:fs');
const line = new RegExp(process.argv[1] + ':\\\\s*\\\\d+\\\\s+(\\\\d+)');
setInterval(() => console.log(Date.now(), line.exec(readFileSync('/proc/net/dev', 'utf8'))[1]), 25);
`;

export class Arrivals {
  readonly #sampler: Running;

  constructor(host: Host, device: WireguardDevice) {
    this.#sampler = host.start('node', ['-e', SAMPLER, device.name]);
  }

  /** Packets so far. */
  get count(): number {
    return this.#samples().at(-1)?.[1] ?? 0;
  }

  /** The median of the packets a second in the windows of this time (Unix milliseconds); 0 when there was none. */
  rate(from: number, to: number): number {
    const rates = this.#windows(from, to).map(({ rate }) => rate);
    return rates.toSorted((one, other) => one - other)[Math.floor(rates.length / 2)] ?? 0;
  }

  /** Milliseconds from `since` to the end of the first window with this rate; undefined when there is none. */
  until(rate: number, since: number): number | undefined {
    const found = this.#windows(since, Infinity).find((window) => window.rate >= rate);
    return found === undefined ? undefined : found.end - since;
  }

  stop(): Promise<number> {
    return this.#sampler.stop();
  }

  #windows(from: number, to: number): readonly { readonly end: number; readonly rate: number }[] {
    const samples = this.#samples().filter(([time]) => time >= from && time <= to);
    return samples.flatMap(([time, count]) => {
      const last = samples.find(([later]) => later >= time + WINDOW);
      return last === undefined ? [] : [{ end: last[0], rate: ((last[1] - count) / (last[0] - time)) * 1_000 }];
    });
  }

  #samples(): readonly (readonly [time: number, count: number])[] {
    const lines = this.#sampler.stdout.split('\n').slice(0, -1);
    return lines.map((line) => line.split(' ').map(Number) as [number, number]);
  }
}
