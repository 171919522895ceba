/** Real TUN interfaces in a network namespace of the test's own; without root only the refusals are tested. */
import { execFile, execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { PacketBatch } from '@sealane/protocol';
import { openTunnel } from '@sealane/tunnel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openTun, type TunDevice } from '../src/devices/tun.ts';
import { DeviceClosedError } from '../src/model.ts';
import { identity, loopback } from './support/tunnels.ts';

const root = process.platform === 'linux' && process.getuid!() === 0;
const run = (...args: readonly string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

interface Notices {
  readonly links: { readonly up: boolean; readonly mtu: number }[];
  readable: number;
  readonly closed: (Error | undefined)[];
}

function started(device: TunDevice, onReadable: () => void = () => {}): Notices {
  const notices: Notices = { links: [], readable: 0, closed: [] };
  device.start({
    readable: () => {
      notices.readable += 1;
      onReadable();
    },
    link: (state) => notices.links.push(state),
    closed: (error) => notices.closed.push(error),
  });
  return notices;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never true: ${condition.toString()}`);
}

describe.runIf(root)('openTun', () => {
  const suffix = process.pid.toString(36);
  const name = `slt${suffix}`;
  const namespace = `sealane-tun-${suffix}`;
  let device: TunDevice | undefined;

  beforeEach(() => void run('netns', 'add', namespace));
  afterEach(async () => {
    await device?.close();
    device = undefined;
    run('netns', 'del', namespace);
  });

  /** Interfaces move at once into the namespace, so that nothing of the host's network is touched. */
  function make(mtu?: number): TunDevice {
    device = openTun({ name, ...(mtu !== undefined && { mtu }) });
    run('link', 'set', name, 'netns', namespace);
    return device;
  }
  const inside = (...args: readonly string[]): string => run('-n', namespace, ...args);

  it('makes an interface with its MTU and removes it on close', async () => {
    const tun = make(1420);
    expect(tun.name).toBe(name);
    expect(tun.mtu).toBe(1420);
    expect(inside('link', 'show', name)).toContain('mtu 1420');
    await tun.close();
    expect(inside('link')).not.toContain(name);
    expect(() => tun.read(new PacketBatch(new Uint8Array(4096), 4))).toThrow(DeviceClosedError);
    expect(tun.write(new Uint8Array(40), 0, 40)).toBe(false);
  });

  it('tells of up, down and a new MTU although the interface lives in another namespace', async () => {
    const notices = started(make(1420));
    await until(() => notices.links.length === 1);
    expect(notices.links[0]).toEqual({ up: false, mtu: 1420 });
    inside('link', 'set', name, 'up');
    await until(() => notices.links.at(-1)!.up);
    inside('link', 'set', name, 'mtu', '1280');
    await until(() => notices.links.at(-1)!.mtu === 1280);
    expect(device!.mtu).toBe(1280);
    inside('link', 'set', name, 'down');
    await until(() => !notices.links.at(-1)!.up);
    expect(notices.closed).toEqual([]);
  });

  it('tells once when the interface is deleted', async () => {
    const notices = started(make());
    inside('link', 'del', name);
    await until(() => notices.closed.length > 0);
    expect(notices.closed).toEqual([undefined]);
    expect(() => device!.read(new PacketBatch(new Uint8Array(4096), 4))).toThrow(DeviceClosedError);
  });

  it('carries packets both ways: a ping is answered by echoing it', async () => {
    const tun = make(1420);
    inside('addr', 'add', '10.77.0.1/24', 'dev', name);
    inside('link', 'set', name, 'up');
    const batch = new PacketBatch(new Uint8Array(65_536), 8);
    const lengths: number[] = [];
    started(tun, () => {
      batch.clear();
      tun.read(batch);
      for (let i = 0; i < batch.count; i++) {
        const at = batch.offsets[i]!;
        if (batch.buffer[at]! >>> 4 !== 4 || batch.buffer[at + 20] !== 8) continue;
        lengths.push(batch.lengths[i]!);
        const packet = batch.buffer;
        // Echo request to reply: swap the addresses, and the checksum grows by what the type loses.
        const from = packet.slice(at + 12, at + 16);
        packet.copyWithin(at + 12, at + 16, at + 20);
        packet.set(from, at + 16);
        packet[at + 20] = 0;
        const sum = batch.view.getUint16(at + 22) + 0x0800;
        batch.view.setUint16(at + 22, (sum & 0xffff) + (sum >>> 16));
        expect(tun.write(packet, at, batch.lengths[i]!)).toBe(true);
      }
    });
    const output = await new Promise<string>((resolve, reject) => {
      const args = ['netns', 'exec', namespace, 'ping', '-c', '5', '-i', '0.2', '-s', '1392', '-W', '2', '10.77.0.2'];
      execFile('ip', args, (error, stdout) => (error === null ? resolve(stdout) : reject(new Error(stdout))));
    });
    expect(output).toContain('5 received');
    expect(lengths).toEqual([1420, 1420, 1420, 1420, 1420]);
  });

  it('loses no packet that comes with the news that the link is up, in the portable lane', async () => {
    const wire = createSocket('udp4');
    wire.bind(0, '127.0.0.1');
    await once(wire, 'listening');
    const endpoint = loopback(wire.address().port);
    const prefix = { address: new Uint8Array(4), length: 0 };
    const tunnel = await openTunnel({
      device: make(),
      lane: 'portable',
      config: {
        privateKey: identity().privateKey,
        peers: [{ publicKey: identity().publicKey, endpoint, allowedIps: [prefix] }],
      },
    });
    const initiation = once(wire, 'message');
    inside('addr', 'add', '10.77.0.1/24', 'dev', name);
    inside('link', 'set', name, 'up');
    const ping = execFile('ip', ['netns', 'exec', namespace, 'ping', '-c', '1', '-W', '1', '10.77.0.2']);
    expect((await initiation)[0]).toHaveLength(148);
    expect((await tunnel.status()).faults).toEqual({});
    await Promise.all([tunnel.close(), once(ping, 'close'), once(wire.close(), 'close')]);
  });

  it('refuses a name that is taken, bad names and bad MTUs', async () => {
    make();
    run('-n', namespace, 'link', 'set', name, 'netns', String(process.pid));
    for (const queues of [1, 2]) {
      expect(() => openTun({ name, queues })).toThrow(`the interface ${name} exists already`);
      expect(() => openTun({ name, queues, attach: true })).toThrow(/in use by another program/);
    }
    expect(() => openTun({ name: 'lo' })).toThrow('the interface lo exists already');
    expect(() => openTun({ name: 'lo', attach: true })).toThrow(/not a TUN interface/);
    for (const bad of ['', 'a/b', 'a b', 'sixteen-letters!', '..'])
      expect(() => openTun({ name: bad })).toThrow(RangeError);
    for (const mtu of [0, 67, 65_536, 1.5]) expect(() => openTun({ name: 'x', mtu })).toThrow(RangeError);
  });

  it('has as many queues as asked for, all of which packets go to, or the first alone', async () => {
    device = openTun({ name, queues: 3 });
    run('link', 'set', name, 'netns', namespace);
    expect(device.queues.length).toBe(3);
    expect(device.queues[0]).toBe(device.fd);
    expect(inside('-d', 'link', 'show', name)).toContain('numqueues 3 ');
    device.keepOneQueue();
    expect(device.queues).toEqual([device.fd]);
    inside('link', 'set', name, 'up');
    inside('addr', 'add', '10.93.0.1/24', 'dev', name);
    // Every flow goes to the queue that is left.
    const batch = new PacketBatch(new Uint8Array(65_536), 32);
    let seen = 0;
    const count = (): boolean => {
      batch.clear();
      device!.read(batch);
      for (let i = 0; i < batch.count; i++) if (batch.buffer[batch.offsets[i]!]! >>> 4 === 4) seen += 1;
      return seen >= 20;
    };
    const script = `const s = require('node:dgram').createSocket('udp4'); let n = 20;
      for (let i = 0; i < 20; i++) s.send('x', 2000 + i, '10.93.0.2', () => --n === 0 && s.close());`;
    execFileSync('ip', ['netns', 'exec', namespace, process.execPath, '-e', script]);
    await until(count);
    for (const queues of [0, 17, 1.5]) expect(() => openTun({ name: 'x', queues })).toThrow(RangeError);
  });

  it('takes an interface that existed, with one queue and as it is, and leaves it there', async () => {
    run('tuntap', 'add', 'mode', 'tun', 'name', name);
    try {
      run('link', 'set', name, 'mtu', '1300');
      const offloads = (): string => execFileSync('ip', ['-d', 'link', 'show', name], { encoding: 'utf8' });
      const before = offloads();
      expect(() => openTun({ name })).toThrow(
        `the interface ${name} exists already: remove it, or choose another name`,
      );
      expect(offloads()).toBe(before);
      const attached = openTun({ name, mtu: 1_420, queues: 4, attach: true });
      started(attached);
      expect(attached.queues.length).toBe(1);
      expect(attached.wantedQueues).toBe(4);
      expect(attached.mtu).toBe(1_300);
      await attached.close();
      expect(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8').trim()).toBe('1300');
    } finally {
      run('link', 'del', name);
    }
  });

  it('stays away from an interface of several queues that somebody else made', () => {
    run('tuntap', 'add', 'mode', 'tun', 'name', name, 'multi_queue');
    try {
      for (const queues of [1, 4]) {
        expect(() => openTun({ name, queues, attach: true })).toThrow(/not a TUN interface of one queue/);
      }
    } finally {
      run('link', 'del', name);
    }
  });

  it('leaves no descriptor behind', async () => {
    const { readdirSync } = await import('node:fs');
    const count = (): number => readdirSync('/proc/self/fd').length;
    const once = async (): Promise<void> => {
      const tun = openTun({ name: `${name}x`, queues: 2 });
      started(tun);
      await tun.close();
    };
    await once();
    const before = count();
    for (let i = 0; i < 20; i++) await once();
    expect(count()).toBe(before);
  });
});

describe.runIf(process.platform === 'linux' && root)('without permission', () => {
  it('names what is missing and the way that needs none', () => {
    const script = `
      const { openTun } = await import(process.argv[1]);
      try { openTun({ name: 'sltperm' }); console.log('made'); } catch (error) { console.log(error.message); }`;
    const module = new URL('../dist/devices/tun.js', import.meta.url).href;
    const output = execFileSync(
      'setpriv',
      ['--reuid=65534', '--clear-groups', 'node', '--input-type=module', '-e', script, module],
      {
        encoding: 'utf8',
      },
    );
    expect(output).toMatch(/no permission to create the TUN interface sltperm.*--userspace/);
  });
});
