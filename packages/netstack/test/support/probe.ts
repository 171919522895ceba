import { expect } from 'vitest';
import type { ConnectionError, Stack, StackOptions, TcpConnection } from '../../src/index.ts';
import { type Parsed, type TcpFields, parse, tcp } from './packets.ts';
import { Dice } from './random.ts';
import { A4, B4, B6, Node } from './sim.ts';

/** One stack, spoken to with packets made by hand. */
export class Probe {
  readonly node: Node;
  now = 1000;

  constructor(options: Partial<StackOptions> = {}) {
    this.node = new Node(new Dice(1), [B4, B6], options);
  }

  get stack(): Stack {
    return this.node.stack;
  }

  /** Sends packets in one batch and returns the answers. */
  say(...packets: readonly Uint8Array[]): Parsed[] {
    for (const packet of packets) this.stack.receive(packet, 0, packet.length, this.now);
    return this.answers();
  }

  tcp(fields: Partial<TcpFields>): Parsed[] {
    return this.say(tcp({ from: A4, fromPort: 4000, to: B4, toPort: 80, seq: 0, flags: 'a', ...fields }));
  }

  wait(ms: number): Parsed[] {
    const end = this.now + ms;
    const seen: Parsed[] = [];
    for (;;) {
      const next = this.stack.nextDeadline();
      this.now = Math.min(Math.max(next, this.now), end);
      seen.push(...this.answers());
      if (next > end) return seen;
    }
  }

  answers(): Parsed[] {
    this.stack.tick(this.now);
    const { out } = this.node;
    const seen = Array.from({ length: out.count }, (_, i) =>
      parse(out.buffer.slice(out.offsets[i], out.offsets[i]! + out.lengths[i]!)),
    );
    out.clear();
    return seen;
  }
}

interface EstablishOptions extends Pick<Partial<TcpFields>, 'window' | 'options'> {
  /** What the handshake takes, in milliseconds. */
  readonly roundTrip?: number;
}

/** A connection to port 80, made by hand: from port 4000, whose next number is 1001. `options` are those of the SYN. */
export function establish(
  probe: Probe,
  { window = 65_535, options = [], roundTrip = 0 }: EstablishOptions = {},
): { connection: TcpConnection; theirs: number; closed: () => { error: ConnectionError | undefined } | undefined } {
  let connection: TcpConnection | undefined;
  let closed: { error: ConnectionError | undefined } | undefined;
  const listener = probe.stack.listen({ port: 80 }, (incoming) => {
    connection = incoming.accept({ onClose: (_c, error) => (closed = { error }) });
  });
  const [synAck] = probe.tcp({ seq: 1000, flags: 's', options });
  expect(synAck!.flags).toBe('sa');
  const theirs = (synAck!.seq + 1) | 0;
  probe.now += roundTrip;
  const hasTimestamps = options.includes(8);
  probe.tcp({ seq: 1001, ack: theirs, flags: 'a', window, options: hasTimestamps ? options : [] });
  expect(connection!.state).toBe('established');
  listener.close();
  return { connection: connection!, theirs, closed: () => closed };
}
