/**
 * A server process under floods on real sockets: its session lives, its memory stays, a new peer connects. How fast is measured by
 * `npm run bench:floods`.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, Scratch, startServer } from './server-support.ts';

const FLOOD = fileURLToPath(new URL('../bench/flood.mjs', import.meta.url));
const RATE = 5_000;
const SECONDS = 4;
/** Each is an address of loopback that anybody may send from. */
const SOURCES = Array.from({ length: 200 }, (_, i) => `127.66.0.${i + 1}`);
const MOST_GROWTH = 32;

let scratch: Scratch;

beforeEach(() => {
  scratch = new Scratch();
});

afterEach(() => scratch.remove());

/** Resolves to the number of datagrams that left. */
function flood(kind: string, sources: readonly string[], port: number, publicKey: string): Promise<number> {
  const options = { kind, rate: RATE, seconds: SECONDS, target: '127.0.0.1', port, sources, publicKey };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [FLOOD, JSON.stringify(options)], (error, stdout, stderr) => {
      if (error === null) resolve((JSON.parse(stdout) as { sent: number }).sent);
      else reject(new Error(stderr, { cause: error }));
    });
  });
}

function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
}

describe.skipIf(process.platform !== 'linux')('a server on which there falls a flood of', () => {
  it.each([
    ['junk of full size', 'junk', SOURCES],
    ['initiations with a valid mac1 from 200 sources', 'initiation', SOURCES],
    ['initiations with a valid mac1 from one source', 'initiation', SOURCES.slice(0, 1)],
    ['initiations with a wrong mac1', 'badmac', SOURCES],
    ['cookie replies to nothing', 'cookie', SOURCES],
  ] as const)(
    '%s keeps its session and its memory, and lets a new peer in',
    { timeout: 120_000 },
    async (_, kind, sources) => {
      await scratch.init();
      const [alice, bob] = [await scratch.must('peer', 'add', 'alice'), await scratch.must('peer', 'add', 'bob')];
      const { server, ready } = await startServer(scratch.state);
      const publicKey = Buffer.from(/PublicKey = (\S+)/.exec(alice)![1]!, 'base64').toString('hex');
      const standing = await connect(alice, ready.port);
      expect(await standing.reaches()).toBe(true);
      // The first flood warms up what a process keeps for good.
      await flood(kind, sources, ready.port, publicKey);
      const before = residentMiB(server.child.pid!);

      const sent = flood(kind, sources, ready.port, publicKey);
      const fresh = await connect(bob, ready.port);
      expect(await fresh.reaches()).toBe(true);
      expect(await standing.reaches()).toBe(true);
      expect(await sent).toBeGreaterThan(1_000);

      expect(residentMiB(server.child.pid!)).toBeLessThan(before + MOST_GROWTH);
      expect(await standing.reaches()).toBe(true);
      expect((await standing.status()).device.peers[0]!.sessions).toBe(1);
      await Promise.all([standing.close(), fresh.close()]);
      expect((await server.stop()).code).toBe(0);
    },
  );
});
