/** Real processes whose clocks step: wall clocks that go back and forth, also across a restart, and a host that sleeps while its peer does not. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isAfter, timestampAt } from '@sealane/protocol';
import { readStatus } from '@sealane/tunnel';
import { MovedClocks } from '../support/clocks.ts';
import { Lab, type Host, until } from '../support/lab.ts';
import {
  type Implementation,
  INNER,
  missingFor,
  OUTER,
  type Pair,
  ping,
  type PingResult,
  SEALANE,
  WireguardDevice,
  wireguardPair,
} from '../support/wireguard.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const TEN_YEARS = 3_652 * 24 * HOUR;
/** Each step forward is taken back, to before what was sent meanwhile. */
const STEPS: readonly (readonly [string, number])[] = [
  ['-1 s', -SECOND],
  ['+1 s', SECOND],
  ['+1 h', HOUR],
  ['-1 h', -HOUR],
  ['+10 y', TEN_YEARS],
  ['-10 y', -TEN_YEARS],
];
/** Milliseconds; a test starts many programs, which a busy machine takes its time for. */
const LONGEST = 120_000;
/** Six seconds of ten pings each. */
const MAY_BE_LOST = 60;
/** Nobody's address on the outer link. */
const NOWHERE = '192.168.77.99:9';

/** The side under test comes first. */
const BEGUN_BY_OURS: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'wireguard-go'],
  ['sealane portable', 'wireguard-go'],
  ['sealane', 'sealane'],
];

describe.for(BEGUN_BY_OURS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping');

  it(
    'renews its session under traffic when the wall clock steps by 1 s, 1 h and 10 y',
    { timeout: LONGEST },
    async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const clocks = await MovedClocks.of(lab, 'a');
      const { a, b } = await wireguardPair(lab, implementations, { aEnv: clocks.env });
      await expectFlow(a, b);
      const traffic = a.host.start('ping', ['-n', '-q', '-i', '0.1', INNER.b4]);
      let newest = 0;
      for (const [step, wallMs] of STEPS) {
        clocks.step({ wallMs });
        newest = Math.max(newest, clocks.now);
        await expectRenewed(step, a, b, clocks);
        // What was sent is remembered as long as the clock is behind it.
        const remembered = new Uint8Array(await readFile(join(lab.folder, `timestamp-${a.name}`)));
        expect(isAfter(remembered, timestampAt(newest)), step).toBe(true);
      }
      traffic.child.kill('SIGINT');
      await until('ping to sum up', () => traffic.stdout.includes(' received'));
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(traffic.stdout)!.map(Number);
      expect(received).toBeGreaterThan(0);
      expect(sent! - received!).toBeLessThanOrEqual(MAY_BE_LOST);
      if (b.lane !== undefined) expect((await readStatus(b.socketPath)).drops['stale-timestamp']).toBe(0);
    },
  );

  it('begins anew with a wall clock 1 h behind, however it ended', { timeout: LONGEST }, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const clocks = await MovedClocks.of(lab, 'a');
    const { a, b, aKeys, bKeys } = await wireguardPair(lab, implementations, { aEnv: clocks.env });
    await expectFlow(a, b);
    let running = a;
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await running.process.stop(signal);
      clocks.step({ wallMs: -HOUR });
      const settings = {
        keys: aKeys,
        port: 51_001,
        addresses: [`${INNER.a4}/24`],
        peers: [{ publicKey: bKeys.publicKey, endpoint: `${OUTER.b4}:51002`, allowedIps: [`${INNER.b4}/32`] }],
      };
      running = await WireguardDevice.start(lab, a.host, implementations[0], 'a', settings, [], [], clocks.env);
      await expectFlow(running, b);
      expect(await running.latestHandshake(), signal).toBeLessThanOrEqual(inSeconds(clocks.now));
    }
  });
});

type End = 'a' | 'b';

/** The first end, further arguments of both, and who sleeps: of the portable lane only that, since no timer of its event loop runs ahead. */
const SLEEPERS: readonly (readonly [Implementation, readonly string[], readonly End[]])[] = [
  ['sealane', [], ['a', 'b']],
  ['sealane', ['--lanes', '3'], ['b']],
  ['sealane portable', [], ['a']],
];

describe.for(SLEEPERS)('%s %j, %j', ([implementation, flags, sleepers]) => {
  const reason = missingFor([implementation], 'ping');

  it(
    'finds out by its traffic that it slept for 8 h and its peer ended their session',
    { timeout: LONGEST },
    async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const clocks = { a: await MovedClocks.of(lab, 'a'), b: await MovedClocks.of(lab, 'b') };
      const options = { flags, aEnv: clocks.a.env, bEnv: clocks.b.env };
      const pair = await wireguardPair(lab, [implementation, 'sealane'], options);
      for (const sleeper of sleepers) {
        await expectFlow(pair.a, pair.b);
        await sleep(pair, clocks, sleeper);
        const [host, target] = sleeper === 'a' ? [pair.a.host, INNER.b4] : [pair.b.host, INNER.a4];
        const { sent, received } = await pingUntilAnswer(host, target);
        expect(received).toBeGreaterThan(0);
        expect(sent - received).toBeLessThanOrEqual(MAY_BE_LOST);
        await expectFlow(pair.a, pair.b);
      }
      // One handshake for each sleep.
      expect((await readStatus(pair.b.socketPath)).peers[0]!.sessions).toBe(1 + sleepers.length);
    },
  );
});

async function sleep(
  { a, b, aKeys, bKeys }: Pair,
  clocks: Readonly<Record<End, MovedClocks>>,
  who: End,
): Promise<void> {
  const [sleeper, awake, key] = who === 'a' ? [a, b, aKeys.publicKey] : [b, a, bKeys.publicKey];
  sleeper.process.child.kill('SIGSTOP');
  // A host that sleeps hears nothing, but a process that is stopped would find it later.
  await awake.wg('set', awake.name, 'peer', key, 'endpoint', NOWHERE);
  clocks[who === 'a' ? 'b' : 'a'].step({ monotonicMs: 8 * HOUR, wallMs: 8 * HOUR });
  clocks[who].step({ wallMs: 8 * HOUR });
  const ended = async (): Promise<boolean> => (await readStatus(awake.socketPath)).peers[0]!.session === undefined;
  await until('the end that is awake to end the session', ended);
  expect(await awake.endpoint()).toBe(NOWHERE);
  sleeper.process.child.kill('SIGCONT');
}

/** As users do it; both ends see the new session, and the initiator when its wall clock says that it is. */
async function expectRenewed(step: string, a: WireguardDevice, b: WireguardDevice, clocks: MovedClocks): Promise<void> {
  const begun = [inSeconds(clocks.now), inSeconds(Date.now())] as const;
  const { code, stderr } = await a.host.run('node', [SEALANE, 'rekey', a.name, '--timeout', '30']);
  expect({ step, code, stderr }).toEqual({ step, code: 0, stderr: '' });
  await expectFlow(a, b);
  const at = await a.latestHandshake();
  expect(at, step).toBeGreaterThanOrEqual(begun[0]);
  expect(at, step).toBeLessThanOrEqual(inSeconds(clocks.now));
  expect(await b.latestHandshake(), step).toBeGreaterThanOrEqual(begun[1]);
}

function inSeconds(ms: number): number {
  return Math.floor(ms / SECOND);
}

async function expectFlow(a: WireguardDevice, b: WireguardDevice): Promise<void> {
  expect((await pingUntilAnswer(a.host, INNER.b4)).received).toBeGreaterThan(0);
  expect((await pingUntilAnswer(b.host, INNER.a4)).received).toBeGreaterThan(0);
}

/** Ten pings a second, for half a minute at most. */
function pingUntilAnswer(host: Host, target: string): Promise<PingResult> {
  return ping(host, target, { count: 1, interval: 0.1, extra: ['-w', '30'] });
}
