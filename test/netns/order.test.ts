/** Data of sessions that stand is not kept waiting by handshakes, however many came before it. */
import { randomBytes } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as paper from '../../packages/protocol/test/support/paper.ts';
import { repaired } from '../fuzz/packet-checks.ts';
import { type Host, Lab, until } from '../support/lab.ts';
import { control, keyPair, missingFor, WireguardDevice } from '../support/wireguard.ts';

const PORT = 51_999;
/** Three times what the Linux lane takes in at once, so that the data behind them is taken in later. */
const HANDSHAKES = 384;
const DEVICE = [10, 77, 0, 1];
const PEER = [10, 77, 0, 2];

/** A UDP socket in a host, whose datagrams are lines of standard input and output; a dot tells that one was sent. */
const PIPE = `
  const socket = require('dgram').createSocket('udp4');
  socket.on('message', (message) => process.stdout.write(message.toString('hex') + '\\n'));
  socket.on('error', () => {});
  socket.connect(${PORT}, '127.0.0.1', () => require('readline').createInterface({ input: process.stdin })
    .on('line', (line) => socket.send(Buffer.from(line, 'hex'), () => process.stderr.write('.'))));`;

class Outside implements Disposable {
  readonly #child: ChildProcess;
  #received = '';
  sent = 0;

  constructor(host: Host) {
    const words = ['netns', 'exec', host.name, process.execPath, '-e', PIPE];
    this.#child = spawn('ip', words, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdout!.setEncoding('latin1').on('data', (text: string) => (this.#received += text));
    this.#child.stderr!.setEncoding('latin1').on('data', (text: string) => (this.sent += text.length));
  }

  send(...datagrams: readonly Uint8Array[]): void {
    for (const bytes of datagrams) this.#child.stdin!.write(`${Buffer.from(bytes).toString('hex')}\n`);
  }

  /** Whole datagrams in the order in which they came. */
  get received(): readonly Buffer[] {
    return this.#received
      .split('\n')
      .slice(0, -1)
      .map((line) => Buffer.from(line, 'hex'));
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}

function echoRequest(sequence: number): Uint8Array {
  const packet = Uint8Array.from([
    0x45,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    64,
    1,
    0,
    0,
    ...PEER,
    ...DEVICE,
    8,
    0,
    0,
    0,
    7,
    7,
    0,
    sequence,
  ]);
  repaired(packet, true);
  return packet;
}

const reason = missingFor(['sealane']);

describe.skipIf(reason !== undefined)(`data behind handshakes (${reason ?? 'of a process in a namespace'})`, () => {
  it.each(['sealane', 'sealane portable'] as const)(
    `is delivered while most of ${HANDSHAKES} that came before it wait: %s`,
    { timeout: 120_000 },
    async (implementation) => {
      await using lab = await Lab.open();
      const host = await lab.host('d');
      const [keys, privateKey] = [await keyPair(), new Uint8Array(randomBytes(32))];
      const responderPublic = new Uint8Array(Buffer.from(keys.publicKey, 'base64'));
      const publicKey = Buffer.from(paper.publicOf(privateKey)).toString('base64');
      const peers = [{ publicKey, allowedIps: [`${PEER.join('.')}/32`] }];
      const settings = { keys, port: PORT, addresses: [`${DEVICE.join('.')}/24`], peers };
      const device = await WireguardDevice.start(lab, host, implementation, 'd', settings, ['--lanes', '1']);
      const pid = device.process.child.pid!;
      using outside = new Outside(host);

      const made = paper.initiation({
        staticPrivate: privateKey,
        responderPublic,
        ephemeralPrivate: new Uint8Array(randomBytes(32)),
        sender: 5,
        timestamp: paper.tai64n(Date.now()),
      });
      outside.send(made.message);
      await until('the response', () => outside.received.some(({ length }) => length === 92));
      const session = made.finish(outside.received.find(({ length }) => length === 92)!)!;
      let counter = 0n;
      const data = (sequence: number): Uint8Array =>
        paper.data(session.send, session.receiver, counter++, echoRequest(sequence));
      /** Where the answer to this echo request stands among all that came. */
      const answerTo = (sequence: number): number =>
        outside.received.findIndex(
          (bytes) => bytes[0] === 4 && paper.openData(session.receive, bytes)?.[27] === sequence,
        );
      outside.send(data(1));
      await until('an echo through the session', () => answerTo(1) >= 0);

      // All of it lies in the socket before any of it is looked at.
      process.kill(pid, 'SIGSTOP');
      await until('the process to stand still', () =>
        /^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, 'latin1')),
      );
      const before = outside.sent;
      const initiation = (): Uint8Array =>
        paper.withMacs(new Uint8Array([1, 0, 0, 0, ...randomBytes(112)]), responderPublic);
      outside.send(...Array.from({ length: HANDSHAKES }, initiation), data(2));
      await until('all to be sent', () => outside.sent === before + HANDSHAKES + 1);
      process.kill(pid, 'SIGCONT');

      await until('the handshakes to be judged', async () => {
        const answer = await control(device.socketPath, ['status=1\n\n']);
        const { drops } = JSON.parse(/^json=(.*)$/m.exec(answer)![1]!) as { drops: Readonly<Record<string, number>> };
        return (drops['cookie-required'] ?? 0) + (drops['handshake-failed'] ?? 0) === HANDSHAKES;
      });
      await until('the echo behind them', () => answerTo(2) >= 0);
      // Under load each is answered with a cookie: what comes after the echo had waited.
      const waited = outside.received.slice(answerTo(2)).filter(({ length }) => length === 64);
      expect(waited.length).toBeGreaterThan(HANDSHAKES / 2);
      expect(await device.process.stop()).toBe(0);
    },
  );
});
