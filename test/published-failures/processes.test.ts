/** Published failures of running programs, each named by where it happened, with the program, its interface and real traffic. */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import { INNER, keyPair, missingFor, ping, wireguardPair } from '../support/wireguard.ts';

const FULL = process.env['SEALANE_FULL'] !== undefined;
const CYCLES = FULL ? 1_000 : 40;
const CHURN = FULL ? 1_000 : 60;
const timeout = FULL ? 3_600_000 : 60_000;

describe('processes', { timeout }, () => {
  const reason = missingFor(['sealane'], 'ping');

  it(`wireguard-go #79, eae5e0f: ${CYCLES} times down and up under traffic, and what stays open`, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, ['sealane', 'sealane']);
    const [pidA, pidB] = [a.process.child.pid!, b.process.child.pid!];
    const open = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
    // Sockets close with the link, so what is open is compared while it is up.
    const cycle = async (): Promise<void> => {
      await a.host.must('ip', ['link', 'set', 'down', 'dev', a.name]);
      await a.host.must('ip', ['link', 'set', 'up', 'dev', a.name]);
    };
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    const [beforeA, beforeB] = [open(pidA), open(pidB)];
    const traffic = b.host.start('ping', ['-n', '-q', '-i', '0.01', INNER.a4]);
    for (let i = 0; i < CYCLES; i++) await cycle();
    await traffic.stop();
    await until('pings to pass again', async () => (await ping(a.host, INNER.b4, { count: 2 })).received === 2);
    await until('the descriptors to be as many as before', () => open(pidA) <= beforeA && open(pidB) <= beforeB);
    expect([a.process.child.exitCode, b.process.child.exitCode]).toEqual([null, null]);
  });

  it(`CVE-2024-26950 (kernel): wg dumps while ${CHURN} peers come and go under traffic`, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, ['sealane', 'sealane']);
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    const lasting = (await b.wg('show', b.name, 'peers')).trim();
    const keys = await Promise.all(Array.from({ length: 4 }, () => keyPair()));
    const traffic = ping(a.host, INNER.b4, { count: 100, interval: 0.02 });
    let churning = true;
    const churn = async (): Promise<void> => {
      for (let i = 0; i < CHURN; i++) {
        const { publicKey } = keys[i % keys.length]!;
        await b.wg('set', b.name, 'peer', publicKey, 'allowed-ips', `10.9.${i & 255}.0/24`);
        await b.wg('set', b.name, 'peer', publicKey, 'remove');
      }
      churning = false;
    };
    const dump = async (): Promise<number> => {
      let dumps = 0;
      for (; churning; dumps++) {
        const lines = (await b.wg('show', b.name, 'dump')).trim().split('\n');
        expect(lines[0]!.split('\t')).toHaveLength(4);
        for (const line of lines.slice(1)) expect(line.split('\t')).toHaveLength(8);
        // Whoever comes and goes: the peer that stays is in every dump, once.
        expect(lines.filter((line) => line.startsWith(lasting))).toHaveLength(1);
      }
      return dumps;
    };
    const [dumps] = await Promise.all([dump(), churn()]);
    expect(dumps).toBeGreaterThan(0);
    expect((await traffic).received).toBe(100);
    expect((await b.wg('show', b.name, 'peers')).trim()).toBe(lasting);
  });
});
