/** Whatever is asked of a control socket, there is one answer with a known errno, and a refused request changed nothing. */
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter, LineTooLongError } from '../../src/uapi/bytes.ts';
import { SetOperation } from '../../src/uapi/set.ts';
import { UapiError } from '../../src/uapi/error.ts';
import { identity } from '../support/tunnels.ts';
import { ask, Conversation, serveTunnel } from './support.ts';

/** FUZZ_LINES=1000000 is the long run. */
const LINES = Number(process.env['FUZZ_LINES'] ?? 20_000);
const SEED = Number(process.env['SEALANE_SEED'] ?? 5);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const keys = [identity(), identity(), identity()];

const key = fc.constantFrom(
  ...keys.map((pair) => hex(pair.publicKey)),
  '0'.repeat(64),
  'f'.repeat(64),
  hex(keys[0]!.publicKey).toUpperCase(),
  'zz',
  '',
);
const number = fc.oneof(
  fc.constantFrom('0', '1', '25', '65535', '65536', '4294967295', '4294967296', '-1', '1e3', '0x1', ' 1', ''),
  fc.nat().map(String),
);
const prefix = fc.constantFrom(
  '10.0.0.0/8',
  '-10.0.0.0/8',
  '10.1.2.3/32',
  '0.0.0.0/0',
  '::/0',
  'fd00::/64',
  '--1.2.3.4/5',
  '1.2.3.4',
  'fd00::/129',
  '/',
);
const truth = fc.constantFrom('true', 'true', 'false', '', 'TRUE');
const line = fc.oneof(
  { weight: 6, arbitrary: key.map((value) => `public_key=${value}`) },
  { weight: 2, arbitrary: key.map((value) => `private_key=${value}`) },
  { weight: 2, arbitrary: key.map((value) => `preshared_key=${value}`) },
  // Ports and marks that would reach the system are left out: the tunnels of other tests own them.
  { weight: 1, arbitrary: fc.constantFrom('listen_port=0', 'listen_port=65536', 'fwmark=0', 'fwmark=x') },
  { weight: 2, arbitrary: number.map((value) => `persistent_keepalive_interval=${value === '25' ? '0' : value}`) },
  { weight: 6, arbitrary: prefix.map((value) => `allowed_ip=${value}`) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom('127.0.0.1:9', '[::1]:9', '[::ffff:127.0.0.1]:9', 'localhost:9', '127.0.0.1:0', '[fe80::1%lo]:9')
      .map((value) => `endpoint=${value}`),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom('replace_peers', 'remove', 'update_only', 'replace_allowed_ips', 'protocol_version'),
        truth,
      )
      .map(([name, value]) => `${name}=${value}`),
  },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ maxLength: 60 })
      .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll('\n', '=')),
  },
  { weight: 1, arbitrary: fc.constantFrom('get=1', 'set=1', 'status=1', 'rekey=all', '=', '==', 'a=b=c') },
);
const request = fc
  .tuple(
    fc.constantFrom('set=1', 'set=1', 'set=1', 'set=1', 'get=1', 'status=1', 'reload=1', 'shutdown=1', 'nothing=1'),
    fc.array(line, { maxLength: 12 }),
  )
  .map(([operation, lines]) => [operation, ...lines.filter((text) => text !== '')]);

describe('hostile requests', () => {
  it(`answers ${LINES} lines`, { timeout: 60_000 + LINES * 3 }, async () => {
    await using served = await serveTunnel();
    const witness = await Conversation.open(served.path);
    let conversation = await Conversation.open(served.path);
    // Keepalives and handshakes of accepted peers are sent meanwhile.
    const configuration = async (): Promise<string> =>
      (await witness.ask('get=1\n\n')).replaceAll(/^(?:tx_bytes|rx_bytes|last_handshake_time_n?sec)=.*\n/gm, '');
    let state = await configuration();
    const errnos = new Map<string, number>();
    let count = 0;
    const requests = fc.sample(request, { numRuns: Math.ceil(LINES / 4), seed: SEED });
    for (const lines of requests) {
      if (count >= LINES) break;
      count += lines.length + 1;
      const answer = await conversation.ask(`${lines.join('\n')}\n\n`);
      const errno = /(?:^|\n)errno=(-?\d+)\n\n$/.exec(answer)?.[1];
      expect(['0', '-22', '-71', '-95']).toContain(errno);
      errnos.set(errno!, (errnos.get(errno!) ?? 0) + 1);
      const now = await configuration();
      if (errno !== '0') expect(now).toBe(state);
      state = now;
      if (lines[0] === 'nothing=1') {
        conversation.close();
        conversation = await Conversation.open(served.path);
      }
    }
    expect(count).toBeGreaterThanOrEqual(LINES);
    expect([...errnos.keys()].toSorted()).toEqual(['-22', '-71', '-95', '0']);
    conversation.close();
    witness.close();
  });

  it('of the corpus are refused with the errno of their mistake, and change nothing', async () => {
    const file = new URL('../../../../test/fuzz/corpus/uapi.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as { note: string; text: string; errno: number }[];
    expect(cases.length).toBeGreaterThan(20);
    await using served = await serveTunnel();
    const state = await ask(served.path, 'get=1\n\n');
    for (const { note, text, errno } of cases) {
      expect(await ask(served.path, text), note).toBe(`errno=${errno}\n\n`);
      expect(await ask(served.path, 'get=1\n\n'), note).toBe(state);
    }
  });

  it('throws nothing but errors with an errno for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), (bytes, inPeer) => {
        const operation = new SetOperation();
        if (inPeer) operation.add(new TextEncoder().encode(`public_key=${hex(keys[0]!.publicKey)}`));
        const outcome = attempt(() => operation.add(bytes));
        expect(outcome === undefined || outcome instanceof UapiError).toBe(true);
      }),
      { numRuns: 5_000, seed: SEED },
    );
  });
});

describe('lines', () => {
  it('are the same however the bytes arrive, and the bytes are wiped', () => {
    const piece = fc.array(fc.constantFrom(10, 10, 61, 97, 0, 255), { maxLength: 9 });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const splitter = new LineSplitter(1_000);
        const chunks = pieces.map((bytes) => Uint8Array.from(bytes));
        const lines = chunks.flatMap((chunk) =>
          Array.from(splitter.push(chunk), (bytes) => Buffer.from(bytes).toString('latin1')),
        );
        const whole = Buffer.from(pieces.flat()).toString('latin1').split('\n');
        expect(lines).toEqual(whole.slice(0, -1));
        expect(splitter.isEmpty).toBe(whole.at(-1) === '');
        expect(chunks.every((chunk) => chunk.every((value) => value === 0))).toBe(true);
      }),
      { numRuns: 2_000, seed: 7 },
    );
  });

  it('are bounded, with and without an end in sight', () => {
    const splitter = new LineSplitter(4);
    expect([...splitter.push(Uint8Array.of(1, 2, 3, 4))]).toEqual([]);
    expect([...splitter.push(Uint8Array.of(10))]).toHaveLength(1);
    expect(() => [...splitter.push(new Uint8Array(5))]).toThrow(LineTooLongError);
    expect(() => [...new LineSplitter(4).push(Uint8Array.of(1, 2, 3, 4, 5, 10))]).toThrow(LineTooLongError);
  });
});

function attempt(action: () => void): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}
