import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAfter, timestampAt } from '@sealane/protocol';
import { TimestampFile } from '@sealane/tunnel';
import { openEnds, SERVER4 } from './support/tunnels.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sealane-timestamp-'));
  path = join(directory, 'timestamp');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('the timestamp file', () => {
  it('always lies at or past what was covered, and ends exactly there', () => {
    const file = TimestampFile.open(path);
    expect(file.floor).toBeUndefined();
    let previous: Uint8Array | undefined;
    let writes = 0;
    for (let second = 0; second < 60; second++) {
      const newest = timestampAt(1_700_000_000_000 + second * 1000);
      file.cover(newest);
      const onDisk = new Uint8Array(readFileSync(path));
      expect(isAfter(newest, onDisk)).toBe(false);
      if (previous === undefined || isAfter(onDisk, previous)) writes++;
      previous = onDisk;
    }
    expect(writes).toBe(6);
    file.close();
    expect(TimestampFile.open(path).floor).toEqual(timestampAt(1_700_000_059_000));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['timestamp']);
  });

  it('is never taken back by another process of the same identity, whichever sends or ends last', () => {
    const at = (second: number): Uint8Array => timestampAt(1_700_000_000_000 + second * 1000);
    const onDisk = (): Uint8Array => TimestampFile.open(path).floor!;
    // A tunnel and a ping beside it.
    const [up, ping] = [TimestampFile.open(path), TimestampFile.open(path)];
    up.cover(at(1_000));
    ping.cover(at(1_500));
    up.cover(at(1_011));
    expect(isAfter(at(1_500), onDisk()), 'after a write').toBe(false);
    up.close();
    expect(isAfter(at(1_500), onDisk()), 'after the end of one').toBe(false);
    ping.close();
    expect(isAfter(at(1_500), onDisk()), 'after both').toBe(false);

    // Which of the two wrote last says nothing about which sent last.
    const [first, second] = [TimestampFile.open(path), TimestampFile.open(path)];
    first.cover(at(2_000));
    second.cover(at(2_001));
    second.cover(at(2_015));
    first.cover(at(2_011));
    second.close();
    expect(isAfter(at(2_015), onDisk())).toBe(false);
    first.close();
    expect(isAfter(at(2_015), onDisk())).toBe(false);
    expect(isAfter(at(2_060), onDisk())).toBe(true);
  });

  it.runIf(process.geteuid?.() === 0)('belongs to the owner of its folder, whoever writes it', () => {
    chownSync(directory, 4_242, 4_243);
    const file = TimestampFile.open(path);
    file.cover(timestampAt(1_700_000_000_000));
    const { uid, gid, mode } = statSync(path);
    expect([uid, gid, mode & 0o777]).toEqual([4_242, 4_243, 0o600]);
  });

  it('holds no descriptor between two writes, although the event loop of a packet thread never turns', (context) => {
    if (!existsSync('/proc/self/fd')) context.skip('needs /proc');
    const written: string[] = [];
    const file = TimestampFile.open(path, (name) => written.push(name));
    const open = (): number => readdirSync('/proc/self/fd').length;
    const before = open();
    for (let minute = 0; minute < 50; minute++) file.cover(timestampAt(1_700_000_000_000 + minute * 60_000));
    expect(open()).toBe(before);
    expect(written).toEqual(Array.from({ length: 50 }, () => path));
  });

  it('refuses a damaged file by name', () => {
    writeFileSync(path, 'short');
    expect(() => TimestampFile.open(path)).toThrow(`${path}: the handshake timestamp has 5 bytes, expected 12`);
    rmSync(path);
    expect(() => TimestampFile.open(join(path, 'below')).cover(timestampAt(0))).toThrow();
  });

  it('never goes below a timestamp that a killed process announced', async () => {
    for (let round = 0; round < 3; round++) {
      const child = fork(new URL('./support/cover-forever.mjs', import.meta.url), [path], { execArgv: [] });
      let announced: Uint8Array | undefined;
      child.on('message', (message: readonly number[]) => (announced = Uint8Array.from(message)));
      await once(child, 'message');
      await sleep(60);
      child.kill('SIGKILL');
      await once(child, 'exit');
      const { floor } = TimestampFile.open(path);
      expect(isAfter(announced!, floor!)).toBe(false);
    }
  });

  it('keeps a tunnel above its earlier timestamps when the clock went back', async () => {
    const future = timestampAt(Date.now() + 3_600_000);
    writeFileSync(path, future);
    const ends = await openEnds({ tunnel: { timestampFile: path } });
    try {
      expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
    } finally {
      await ends.close();
    }
    expect(isAfter(new Uint8Array(readFileSync(path)), future)).toBe(true);
  });

  it('counts a fault when it cannot be written, and the tunnel goes on', async () => {
    const ends = await openEnds({ tunnel: { timestampFile: join(directory, 'missing', 'timestamp') } });
    try {
      expect(await ends.echo.ping({ target: SERVER4 })).toBeGreaterThan(0);
      expect((await ends.client.status()).faults['timestamp-file-failed']).toBeGreaterThan(0);
    } finally {
      await ends.close();
    }
  });
});
