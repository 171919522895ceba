/**
 * The packet threads of the Linux lane forget their keys as well: a process with a TUN interface is searched for the keys of its sessions, which
 * the process at the other end tells because it has the same, and for the ephemeral keys that the searched one drew itself.
 */
import { describe, expect, it } from 'vitest';
import { Lab, missing, until } from '../support/lab.ts';
import { OUTER } from '../support/wireguard.ts';
import { End, ENDS, expectLive, letSessionsEnd, observed, Told } from './end.ts';

const HANDSHAKES = 4;

describe.for([1, 3])('a tunnel on %i packet threads', (lanes) => {
  const reason = missing();

  it(
    'holds no key of a session that is over: replaced, expired, of a removed peer, after close',
    { timeout: 240_000 },
    async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const [a, b] = [await lab.host('a'), await lab.host('b')];
      await lab.join(a, 'va', [`${OUTER.a4}/24`], b, 'vb', [`${OUTER.b4}/24`]);
      const ahead = await lab.file('ahead', '0');
      const told = new Told();
      const name = lab.interfaceName('t');
      const thread = new End(a, told, [ENDS, 'thread', name, String(lanes)], observed(ahead));
      const teller = new End(b, told, [ENDS, 'teller']);
      const keys = [
        await thread.heard((line) => line.publicKey !== undefined),
        await teller.heard((line) => line.publicKey !== undefined),
      ] as const;
      thread.tell(keys[1]);
      teller.tell(keys[0]);
      expect(await thread.heard((line) => line.ready !== undefined)).toEqual({ ready: 'linux', lanes });
      await teller.heard((line) => line.ready !== undefined);
      await a.must('ip', ['addr', 'add', '10.77.0.1/24', 'dev', name]);
      await a.must('ip', ['link', 'set', name, 'up']);

      const sessions = async (count: number): Promise<void> => {
        await until(
          `session ${count}`,
          async () => {
            await teller.ask('send');
            return ((await thread.ask('status')).sessions ?? 0) >= count;
          },
          60_000,
        );
      };
      // By turns either end begins, so that the thread is initiator and responder.
      const handshakes = async (from: number): Promise<void> => {
        for (let i = 0; i < HANDSHAKES; i++) {
          await (i % 2 === 0 ? teller : thread).ask('rekey');
          await sessions(from + i + 1);
        }
      };
      await handshakes(0);
      expectLive(told, thread.pid);

      // The other end falls silent, and nine minutes and the vain attempts to reach it pass for the thread's clock.
      await teller.ask('remove');
      await letSessionsEnd(ahead, () => thread.ask('status'));
      await until('the keys of the session to be gone', () => told.ofSessions(thread.pid).length === 0, 30_000);
      expect((await thread.ask('status')).current).toBe(false);

      await teller.ask('add');
      await handshakes(HANDSHAKES);
      expect(told.in(thread.pid)).toContain('session');
      await thread.ask('remove');
      expect(told.in(thread.pid).filter((kind) => kind !== 'static')).toEqual([]);
      await thread.ask('close');
      expect(told.in(thread.pid)).toEqual([]);
      await thread.end();
      await teller.end();
    },
  );
});
