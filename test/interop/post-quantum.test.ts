/** The post-quantum exchange between real processes, seen from the wire, and opposite an implementation that knows nothing of it. */
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { readStatus, requestConfigure, type PeerReport } from '@sealane/tunnel';
import { parseKey } from '@sealane/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sealane } from '../cli/client-support.ts';
import { Scratch, startServer, type ServerProcess } from '../cli/server-support.ts';
import { Lab, missing, until } from '../support/lab.ts';
import { INNER, ping, wireguardPair, type WireguardDevice } from '../support/wireguard.ts';

const OFFER = 1_232;
const ANSWER = 1_136;

/** Stands between client and server on loopback and notes the length of every datagram. */
class Wire {
  readonly socket = createSocket('udp4');
  readonly toServer: number[] = [];
  readonly toClient: number[] = [];
  #client: RemoteInfo | undefined;

  static async open(serverPort: number): Promise<Wire> {
    const wire = new Wire();
    wire.socket.on('message', (bytes, from) => {
      if (from.port === serverPort) {
        wire.toClient.push(bytes.length);
        if (wire.#client !== undefined) wire.socket.send(bytes, wire.#client.port, '127.0.0.1');
      } else {
        wire.#client = from;
        wire.toServer.push(bytes.length);
        wire.socket.send(bytes, serverPort, '127.0.0.1');
      }
    });
    wire.socket.bind(0, '127.0.0.1');
    await once(wire.socket, 'listening');
    return wire;
  }
}

const count = (lengths: readonly number[], length: number): number => lengths.filter((one) => one === length).length;

describe('two processes on loopback', () => {
  let scratch: Scratch;
  let server: ServerProcess | undefined;
  let wire: Wire | undefined;

  beforeEach(async () => {
    scratch = new Scratch();
    await scratch.init();
  });
  afterEach(async () => {
    wire?.socket.close();
    await server?.stop('SIGKILL');
    wire = server = undefined;
    scratch.remove();
  });

  /** Pings through the wire with the configuration that `peer add` prints and these lines in place of its own extension. */
  async function pingAs(add: readonly string[], extension: string, pings: number): Promise<unknown> {
    const config = await scratch.must('peer', 'add', 'bob', ...add);
    const started = await startServer(scratch.state);
    server = started.server;
    wire = await Wire.open(started.ready.port);
    const path = scratch.path('bob.conf');
    const text = config
      .replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${(wire.socket.address() as { port: number }).port}`)
      .replace(/^#@ PostQuantum = .*\n/m, '');
    writeFileSync(path, `${text}${extension}`, { mode: 0o600 });
    const outcome = await sealane(['ping', path, '--count', String(pings), '--timeout', '20', '--json'], '', {
      STATE_DIRECTORY: scratch.folder,
    });
    expect([outcome.code, outcome.stderr]).toEqual([0, '']);
    return JSON.parse(outcome.stdout);
  }

  it(
    'hedge their session, renew the key on time, and show it in ping and peer show',
    { timeout: 120_000 },
    async () => {
      const extension = '#@ RekeyInterval = 10\n#@ PostQuantum = 10\n';
      // 200 ms apart: half a minute, in which sessions and key are renewed twice at least.
      const result = await pingAs(['--post-quantum'], extension, 140);
      expect(result).toMatchObject({ ok: true, sent: 140, received: 140, hedged: true });
      expect(count(wire!.toServer, OFFER)).toBeGreaterThanOrEqual(2);
      expect(count(wire!.toClient, ANSWER)).toBeGreaterThanOrEqual(2);
      const shown = JSON.parse(await scratch.must('peer', 'show', 'bob', '--json')) as { readonly live: PeerReport };
      expect(shown).toMatchObject({ postQuantum: true, live: { session: { hedged: true } } });
      expect(shown.live.postQuantum!.exchanges).toBeGreaterThanOrEqual(2);
      expect(await scratch.must('peer', 'show', 'bob')).toContain('on, the session is hedged');
      expect(server!.log.filter(({ event }) => event === 'session').map(({ hedged }) => hedged)).toEqual(
        expect.arrayContaining([false, true]),
      );
    },
  );

  it('of which one only is configured for it have a tunnel that is not hedged, and say so', async () => {
    const result = await pingAs([], '#@ PostQuantum = yes\n', 5);
    expect(result).toMatchObject({ ok: true, sent: 5, received: 5, sessions: 1, hedged: false });
    expect(count(wire!.toServer, OFFER)).toBeGreaterThanOrEqual(1);
    expect(count(wire!.toClient, ANSWER)).toBe(0);
    expect(await scratch.must('peer', 'show', 'bob')).toMatch(/post-quantum +off/);
  });
});

const reason = missing('wireguard-go', 'wg', 'ping');

describe.skipIf(reason !== undefined)(`interfaces in namespaces (${reason ?? 'all programs are here'})`, () => {
  async function hedge(device: WireguardDevice, peer: string): Promise<void> {
    const publicKey = parseKey(peer)!;
    await requestConfigure(device.socketPath, { peers: [{ publicKey, updateOnly: true, postQuantum: 10_000 }] });
  }

  async function peerOf(device: WireguardDevice): Promise<PeerReport> {
    return (await readStatus(device.socketPath)).peers[0]!;
  }

  it.for(['a', 'b'] as const)(
    'PostQuantum at %s opposite wireguard-go leaves a tunnel that works, loses nothing and is never hedged',
    { timeout: 180_000 },
    async (ours) => {
      await using lab = await Lab.open();
      const { a, b, aKeys, bKeys } = await wireguardPair(
        lab,
        ours === 'a' ? ['sealane', 'wireguard-go'] : ['wireguard-go', 'sealane'],
      );
      const device = ours === 'a' ? a : b;
      await hedge(device, ours === 'a' ? bKeys.publicKey : aKeys.publicKey);
      // Longer than four offers take, which wireguard-go drops as packets of an unknown version.
      const sent = 240;
      expect(await ping(a.host, INNER.b4, { count: sent, interval: 0.1, timeout: 120_000 })).toEqual({
        sent,
        received: sent,
        duplicates: 0,
      });
      if (ours === 'a')
        await until('the offers to be given up', async () => (await peerOf(a)).postQuantum?.trouble !== undefined);
      const peer = await peerOf(device);
      expect(peer).toMatchObject({ sessions: 1, session: { hedged: false }, postQuantum: { exchanges: 0 } });
      expect(peer.postQuantum!.trouble).toBe(ours === 'a' ? 'unanswered' : undefined);
      expect((await ping(b.host, INNER.a6, { count: 5, size: 1300 })).received).toBe(5);
    },
  );

  it.for([1, 3])(
    'hedges two interfaces live, %i lanes, and wg shows the configured preshared key only',
    { timeout: 180_000 },
    async (lanes) => {
      await using lab = await Lab.open();
      const { a, b, aKeys, bKeys } = await wireguardPair(lab, ['sealane', 'sealane'], {
        flags: ['--lanes', String(lanes)],
      });
      for (const device of [a, b]) expect((await readStatus(device.socketPath)).lanes?.length ?? 1).toBe(lanes);
      expect((await ping(a.host, INNER.b4, { count: 2 })).received).toBe(2);
      await hedge(b, aKeys.publicKey);
      await hedge(a, bKeys.publicKey);
      const sent = 50;
      const pings = ping(a.host, INNER.b4, { count: sent, interval: 0.1 });
      await until('both sides to be hedged', async () =>
        (await Promise.all([peerOf(a), peerOf(b)])).every((peer) => peer.session?.hedged === true),
      );
      expect(await pings).toEqual({ sent, received: sent, duplicates: 0 });
      for (const device of [a, b]) {
        expect((await device.wg('show', device.name, 'preshared-keys')).trim().split('\t')[1]).toBe('(none)');
      }
    },
  );
});
