/** The commands of `sealaned` that change or show its state, as processes, and what a crash leaves behind. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  unlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfig, formatPrefix } from '@sealane/tunnel';
import { formatKey, nobleCrypto } from '@sealane/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { execute } from '../support/lab.ts';
import { finish, launch, Scratch, SEALANED, sealaned, type Outcome } from './server-support.ts';

interface PeerJson {
  readonly name: string;
  readonly publicKey: string;
  readonly addresses: readonly string[];
  readonly presharedKey: boolean;
}

let scratch: Scratch;

beforeEach(() => {
  scratch = new Scratch();
});
afterEach(() => scratch.remove());

async function peers(): Promise<readonly PeerJson[]> {
  return JSON.parse(await scratch.must('peer', 'list', '--json')) as PeerJson[];
}

/** Throws unless the file is whole. */
function namesOnDisk(): readonly string[] {
  const registry = JSON.parse(readFileSync(join(scratch.state, 'registry.json'), 'utf8')) as { peers: PeerJson[] };
  return registry.peers.map(({ name }) => name);
}

function expectRefusal(outcome: Outcome, code: 1 | 2, text: string | RegExp): void {
  expect(outcome.stderr).toMatch(/^sealaned: [^\n]+\n$/);
  expect(outcome.stderr).toMatch(text);
  expect(outcome.stdout).toBe('');
  expect(outcome.code).toBe(code);
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

describe('sealaned init', () => {
  it('makes a folder and a key that only their owner can read, and says the public key alone', async () => {
    const said = await scratch.must('init', '--endpoint', 'vpn.example.org:51820', '--pool', '10.7.0.0/24,fd07::/64');
    expect(mode(scratch.state)).toBe('700');
    for (const file of readdirSync(scratch.state))
      expect([file, mode(join(scratch.state, file))]).toEqual([file, '600']);
    const privateKey = readFileSync(join(scratch.state, 'private.key'), 'utf8').trim();
    const publicKey = formatKey(nobleCrypto.publicKey(Uint8Array.from(Buffer.from(privateKey, 'base64'))));
    expect(said).toContain(publicKey);
    expect(said).not.toContain(privateKey);
    expect(readFileSync(join(scratch.state, 'registry.json'), 'utf8')).not.toContain(privateKey);
  });

  it('refuses to overwrite a server', async () => {
    await scratch.init();
    const before = readdirSync(scratch.state).map((file) => readFileSync(join(scratch.state, file), 'utf8'));
    expectRefusal(
      await scratch.run('init', '--endpoint', '127.0.0.1:1', '--pool', '10.9.0.0/24'),
      1,
      /holds a server already and is left as it is/,
    );
    expect(readdirSync(scratch.state).map((file) => readFileSync(join(scratch.state, file), 'utf8'))).toEqual(before);
  });

  it('goes on where a killed one stopped, with its key', async () => {
    await scratch.init();
    const key = readFileSync(join(scratch.state, 'private.key'), 'utf8');
    unlinkSync(join(scratch.state, 'registry.json'));
    expect(await scratch.must('init', '--endpoint', '127.0.0.1:1', '--pool', '10.9.0.0/24')).toContain(
      'that was there',
    );
    expect(readFileSync(join(scratch.state, 'private.key'), 'utf8')).toBe(key);
  });

  it('leaves one server when many are made at once', async () => {
    const args = ['init', '--endpoint', '127.0.0.1:1', '--pool', '10.9.0.0/24'];
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => scratch.run(...args)));
    expect(outcomes.map(({ code }) => code).toSorted()).toEqual([0, 1, 1, 1, 1, 1]);
    expect(await peers()).toEqual([]);
  });

  it('uses the XDG state folder of a user who is not root', async () => {
    if (process.getuid?.() !== 0) return;
    chmodSync(scratch.folder, 0o755);
    const home = scratch.path('home');
    mkdirSync(home);
    chownSync(home, 65_534, 65_534);
    const args = ['init', '--endpoint', '127.0.0.1:1', '--pool', '10.9.0.0/24'];
    const plain = await sealaned(args, { uid: 65_534, env: { HOME: home, XDG_STATE_HOME: '' } });
    expect([plain.code, plain.stderr]).toEqual([0, '']);
    expect(existsSync(join(home, '.local/state/sealane/registry.json'))).toBe(true);
    const named = await sealaned(args, { uid: 65_534, env: { HOME: home, XDG_STATE_HOME: join(home, 'xdg') } });
    expect(named.code).toBe(0);
    expect(existsSync(join(home, 'xdg/sealane/registry.json'))).toBe(true);
  });
});

describe('sealaned peer', () => {
  beforeEach(() => scratch.init('10.7.0.0/29,fd07::/64'));

  it('add prints the configuration alone on a pipe', async () => {
    const { stdout, stderr } = await scratch.run('peer', 'add', 'alice', '--keepalive', '25');
    expect(stderr).toBe('added alice (10.7.0.2, fd07::2)\n');
    const config = parseConfig(stdout, 'alice.conf');
    expect(config.interface.addresses.map(formatPrefix)).toEqual(['10.7.0.2/32', 'fd07::2/128']);
    expect(config.peers[0]!.allowedIps.map(formatPrefix)).toEqual(['10.7.0.0/29', 'fd07::/64']);
    expect(config.peers[0]!.endpoints).toEqual(['127.0.0.1:51820']);
    expect(config.peers[0]!.persistentKeepalive).toBe(25);
    const [alice] = await peers();
    expect(alice!.publicKey).toBe(formatKey(nobleCrypto.publicKey(config.interface.privateKey)));
    expect(alice!.presharedKey).toBe(true);
    const registry = readFileSync(join(scratch.state, 'registry.json'), 'utf8');
    expect(registry).toContain(formatKey(config.peers[0]!.presharedKey!));
    expect(registry).not.toContain(formatKey(config.interface.privateKey));
  });

  it('add writes a new file that only its owner can read, and overwrites none', async () => {
    const said = await scratch.must(
      'peer',
      'add',
      'alice',
      '--out',
      'alice.conf',
      '--no-psk',
      '--allowed-ips',
      '0.0.0.0/0,::/0',
    );
    expect(said).toBe('added alice (10.7.0.2, fd07::2): its configuration is in alice.conf\n');
    expect(mode(scratch.path('alice.conf'))).toBe('600');
    const text = readFileSync(scratch.path('alice.conf'), 'utf8');
    expect(text).not.toContain('PresharedKey');
    expect(parseConfig(text, 'alice.conf').peers[0]!.allowedIps.map(formatPrefix)).toEqual(['0.0.0.0/0', '::/0']);
    expectRefusal(await scratch.run('peer', 'add', 'bob', '--out', 'alice.conf'), 1, /alice\.conf exists already/);
    expectRefusal(
      await scratch.run('peer', 'add', 'bob', '--out', 'none/bob.conf'),
      1,
      /bob\.conf cannot be written: ENOENT/,
    );
    expect(readFileSync(scratch.path('alice.conf'), 'utf8')).toBe(text);
    expect((await peers()).map(({ name }) => name)).toEqual(['alice']);
    expect(readdirSync(scratch.folder).toSorted()).toEqual(['alice.conf', 'state']);
  });

  it('add takes the key that a peer made itself', async () => {
    const publicKey = formatKey(nobleCrypto.publicKey(new Uint8Array(32).fill(0x48)));
    const config = await scratch.must('peer', 'add', 'carol', '--public-key', publicKey);
    expect(config).toMatch(/^PrivateKey = REPLACE-WITH-YOUR-PRIVATE-KEY$/m);
    expect((await peers())[0]!.publicKey).toBe(publicKey);
    expectRefusal(
      await scratch.run('peer', 'add', 'dave', '--public-key', publicKey),
      1,
      /belongs to the peer carol already/,
    );
  });

  it('add and remove give each address once and use freed ones again, until the pool is empty', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await scratch.must('peer', 'add', name);
    expectRefusal(await scratch.run('peer', 'add', 'f'), 1, /the pool 10\.7\.0\.0\/29 has no free address/);
    await scratch.must('peer', 'remove', 'c');
    await scratch.must('peer', 'add', 'f');
    const addresses = (await peers()).map((peer) => [peer.name, peer.addresses[0]]);
    expect(addresses).toEqual([
      ['a', '10.7.0.2'],
      ['b', '10.7.0.3'],
      ['d', '10.7.0.5'],
      ['e', '10.7.0.6'],
      ['f', '10.7.0.4'],
    ]);
    expect((await peers()).at(-1)!.addresses).toEqual(['10.7.0.4', 'fd07::4']);
  });

  it.skipIf(!existsSync('/usr/bin/script'))(
    'add shows a QR code on a terminal, unless the key is missing in it',
    async () => {
      const onTerminal = async (...args: readonly string[]): Promise<string> => {
        const command = [process.execPath, SEALANED, ...args, '--state', scratch.state]
          .map((part) => `'${part}'`)
          .join(' ');
        return (await execute('/usr/bin/script', ['-qec', command, '/dev/null'])).stdout;
      };
      const text = await onTerminal('peer', 'add', 'alice');
      expect(text).toContain('[Interface]');
      expect(text.split('\n').filter((line) => /^[█▀▄ \r]{30,}$/.test(line)).length).toBeGreaterThan(15);
      const key = formatKey(nobleCrypto.publicKey(new Uint8Array(32).fill(0x48)));
      expect(await onTerminal('peer', 'add', 'carol', '--public-key', key)).not.toContain('█');
      const other = await onTerminal('peer', 'add', 'dave', '--cipher', 'aes256gcm');
      expect(other).toContain('[Interface]');
      expect(other).not.toContain('█');
      expect(other).toContain(
        'aes256gcm is not WireGuard-compatible: dave has to use Sealane, no app takes this as a QR code',
      );
    },
  );

  it('list and show say everything but secrets', async () => {
    const config = parseConfig(await scratch.must('peer', 'add', 'alice'), 'alice.conf');
    const secrets = [formatKey(config.interface.privateKey), formatKey(config.peers[0]!.presharedKey!)];
    for (const args of [['peer', 'list'], ['peer', 'show', 'alice'], ['status']]) {
      for (const json of [[], ['--json']]) {
        const text = await scratch.must(...args, ...json);
        for (const secret of secrets) expect(text).not.toContain(secret);
        if (args[0] === 'peer') expect(text).toContain('10.7.0.2');
      }
    }
    expect(await scratch.must('peer', 'show', 'alice')).toContain('none: no server runs');
    expect(await scratch.must('status')).toMatch(/^not running\n/);
    expect(JSON.parse(await scratch.must('status', '--json'))).toMatchObject({ running: false, peers: 1, mtu: 1420 });
  });

  it('refuses names that are taken or not there', async () => {
    await scratch.must('peer', 'add', 'alice');
    expectRefusal(await scratch.run('peer', 'add', 'alice'), 1, /there is a peer alice already/);
    expectRefusal(await scratch.run('peer', 'remove', 'bob'), 1, /there is no peer bob/);
    expectRefusal(await scratch.run('peer', 'show', 'bob'), 1, /there is no peer bob/);
  });
});

describe('the registry', () => {
  it('keeps every one of 20 peers that are added at once, each with addresses of its own', async () => {
    await scratch.init();
    const names = Array.from({ length: 20 }, (_, i) => `peer${i}`);
    const outcomes = await Promise.all(names.map((name) => scratch.run('peer', 'add', name)));
    expect(outcomes.map(({ code, stderr }) => [code, stderr.startsWith('added ')])).toEqual(names.map(() => [0, true]));
    const all = await peers();
    expect(all.map(({ name }) => name).toSorted()).toEqual(names.toSorted());
    for (const family of [0, 1]) expect(new Set(all.map(({ addresses }) => addresses[family])).size).toBe(20);
    const configs = outcomes.map(({ stdout }) =>
      parseConfig(stdout, 'peer.conf').interface.addresses.map(({ address }) => address.join('.')),
    );
    expect(new Set(configs.map(([v4]) => v4)).size).toBe(20);
  }, 120_000);

  it('is whole and has lost nothing whenever a change is killed', async () => {
    await scratch.init('10.7.0.0/16');
    const promised = new Set<string>();
    let killed = 0;
    for (let round = 0; round < 30; round++) {
      const name = `peer${round}`;
      const victim = [...promised].at(round % Math.max(1, promised.size));
      const args =
        round % 3 === 2 && victim !== undefined
          ? ['peer', 'remove', victim]
          : ['peer', 'add', name, '--out', scratch.path(`${name}.conf`)];
      // Killed at one of the moments at which something in the folders changes.
      const child = launch([...args, '--state', scratch.state]);
      let left = round % 8;
      const onChange = (): void => {
        if (left-- === 0) child.kill('SIGKILL');
      };
      const watchers = [scratch.state, scratch.folder].map((folder) => watch(folder, onChange));
      const { code } = await finish(child);
      for (const watcher of watchers) watcher.close();
      if (code !== 0) killed++;

      const now = namesOnDisk();
      const [verb, subject] = [args[1]!, args[2]!];
      if (verb === 'remove') promised.delete(subject);
      else if (code === 0) promised.add(subject);
      for (const kept of promised) expect(now).toContain(kept);
      if (code === 0) expect(now.includes(subject)).toBe(verb === 'add');
      // A change that was killed happened or did not; the others are untouched by it.
      for (const extra of now) if (extra !== subject) expect(promised).toContain(extra);
      if (verb === 'add' && now.includes(subject)) {
        const config = parseConfig(readFileSync(scratch.path(`${subject}.conf`), 'utf8'), `${subject}.conf`);
        expect(config.peers).toHaveLength(1);
        promised.add(subject);
      }
      if (verb === 'remove' && now.includes(subject)) promised.add(subject);
    }
    expect(killed).toBeGreaterThan(5);
    expect((await peers()).map((peer) => peer.name).toSorted()).toEqual([...promised].toSorted());
  }, 180_000);
});

describe('wrong input', () => {
  const key = formatKey(new Uint8Array(32).fill(7));
  const init = ['init', '--endpoint', '127.0.0.1:51820', '--pool', '10.7.0.0/24'];

  const arguments_: readonly (readonly [RegExp, readonly string[]])[] = [
    [/unknown command 'frobnicate'/, ['frobnicate']],
    [/unknown command 'frobnicate'/, ['peer', 'frobnicate']],
    [/unknown option '--frobnicate'/, ['run', '--frobnicate']],
    [/required option '--endpoint <host:port>' not specified/, ['init', '--pool', '10.7.0.0/24']],
    [/required option '--pool <cidr\[,cidr6\]>' not specified/, ['init', '--endpoint', 'a:1']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', 'vpn.example.org', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', '10.0.0.1:0', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', '10.0.0.1:65536', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', '10.0.0.256:51820', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', '2001:db8::1:51820', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', 'a b:1', '--pool', '10.7.0.0/24']],
    [/--endpoint.*expected HOST:PORT/, ['init', '--endpoint', 'a\nPostUp=x:1', '--pool', '10.7.0.0/24']],
    [/--pool.*not an address block/, ['init', '--endpoint', 'a:1', '--pool', '10.7.0.0']],
    [/--pool.*the block is 10\.7\.0\.0\/24/, ['init', '--endpoint', 'a:1', '--pool', '10.7.0.9/24']],
    [/--pool.*one IPv4 and one IPv6/, ['init', '--endpoint', 'a:1', '--pool', '10.7.0.0/24,10.8.0.0/24']],
    [/--pool.*one IPv4 and one IPv6/, ['init', '--endpoint', 'a:1', '--pool', ',']],
    [/--dns.*neither an address nor a domain/, [...init, '--dns', '10.0.0.300']],
    [/--mtu.*whole number from 576/, [...init, '--mtu', '100']],
    [/--mtu.*whole number from 576/, [...init, '--mtu', '1420.5']],
    [/too many arguments/, [...init, 'extra']],
    [/does not exist: make a server with 'sealaned init' first/, ['run']],
    [/does not exist: make a server with 'sealaned init' first/, ['peer', 'list']],
    [/does not exist: make a server with 'sealaned init' first/, ['peer', 'add', 'alice']],
    [/does not exist: make a server with 'sealaned init' first/, ['status']],
    [/--listen.*whole number from 0 to 65535/, ['run', '--listen', '65536']],
    [/--lane.*expected portable, linux or auto/, ['run', '--lane', 'fast']],
    [/--lanes.*17.*1 to 16/, ['run', '--lanes', '17']],
    [/--interface.*at most 15/, ['run', '--interface', 'a-name-that-is-too-long']],
    [/--interface.*at most 15/, ['run', '--interface', '../x']],
    [/'--userspace' cannot be used with option '--interface/, ['run', '--userspace', '--interface', 'sl0']],
    [/'--userspace' cannot be used with option '--lanes <n>'/, ['run', '--userspace', '--lanes', '2']],
    [/'--userspace' cannot be used with option '--peer-to-peer'/, ['run', '--userspace', '--peer-to-peer']],
    [/'--userspace' cannot be used with option '--no-nat'/, ['run', '--userspace', '--no-nat']],
    [/'--userspace' cannot be used with option '--no-forwarding'/, ['run', '--userspace', '--no-forwarding']],
    [/'--lane portable' cannot be used with option '--lanes 4'/, ['run', '--lane', 'portable', '--lanes', '4']],
    [/missing required argument 'name'/, ['peer', 'add']],
    [/the name '.*' is not one: expected letters/, ['peer', 'add', '../alice']],
    [/the name '.*' is not one: expected letters/, ['peer', 'add', '']],
    [/the name '.*' is not one: expected letters/, ['peer', 'add', 'a\nb']],
    [/the name '.*' is not one: expected letters/, ['peer', 'add', 'a'.repeat(64)]],
    [/--keepalive.*whole number/, ['peer', 'add', 'alice', '--keepalive', '-1']],
    [
      /--allowed-ips.*'10\.0\.0\.0\/40' is not an address block/,
      ['peer', 'add', 'alice', '--allowed-ips', '10.0.0.0/40'],
    ],
  ];

  it('says its version like the client', async () => {
    expect(await sealaned(['--version'])).toMatchObject({ code: 0, stderr: '' });
    expect((await sealaned(['-V'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  const nowhere = join(tmpdir(), 'sealaned-that-never-is');

  it.concurrent.each(arguments_)('%s', async (message, args) => {
    expectRefusal(await sealaned([...args, '--state', nowhere]), 2, message);
    expect(existsSync(nowhere)).toBe(false);
  });

  const files: readonly (readonly [RegExp, (state: string) => void, readonly string[]])[] = [
    [/state is open to others \(mode 0755\): close it with 'chmod 0700/, (state) => chmodSync(state, 0o755), ['run']],
    [/state is open to others/, (state) => chmodSync(state, 0o710), ['peer', 'add', 'alice']],
    [
      /private\.key is open to others \(mode 0644\): close it with 'chmod 0600/,
      (state) => chmodSync(join(state, 'private.key'), 0o644),
      ['run'],
    ],
    [
      /private\.key is open to others/,
      (state) => chmodSync(join(state, 'private.key'), 0o640),
      ['peer', 'add', 'alice'],
    ],
    [/registry\.json is open to others/, (state) => chmodSync(join(state, 'registry.json'), 0o604), ['peer', 'list']],
    [
      /private\.key does not hold a base64 key/,
      (state) => writeFileSync(join(state, 'private.key'), 'secret'),
      ['run'],
    ],
    [
      /registry\.json: not valid JSON/,
      (state) => writeFileSync(join(state, 'registry.json'), '{'),
      ['peer', 'add', 'alice'],
    ],
    [/registry\.json: version: missing/, (state) => writeFileSync(join(state, 'registry.json'), '{}'), ['run']],
  ];

  it.each(files)('in the state: %s', async (message, spoil, args) => {
    await scratch.init();
    spoil(scratch.state);
    expectRefusal(await scratch.run(...args), 2, message);
    expect(existsSync(join(scratch.state, 'control.sock'))).toBe(false);
  });

  it.each([
    ['is not base64', 'AAAA'],
    ['is too long', `${key}A`],
    ['is of low order', formatKey(new Uint8Array(32))],
  ])('a public key that %s is refused and not repeated', async (_, text) => {
    await scratch.init();
    const outcome = await scratch.run('peer', 'add', 'alice', '--public-key', text);
    expectRefusal(outcome, 2, /--public-key: /);
    expect(outcome.stderr).not.toContain(text);
    expect(await peers()).toEqual([]);
  });

  it("the server's own key is no peer's", async () => {
    await scratch.init();
    const text = readFileSync(join(scratch.state, 'private.key'), 'utf8').trim();
    const own = formatKey(nobleCrypto.publicKey(Uint8Array.from(Buffer.from(text, 'base64'))));
    expectRefusal(await scratch.run('peer', 'add', 'alice', '--public-key', own), 2, /the server's own key/);
  });
});

describe('help', () => {
  it.concurrent.each([
    [[]],
    [['init']],
    [['run']],
    [['status']],
    [['peer']],
    [['peer', 'add']],
    [['peer', 'list']],
    [['peer', 'show']],
    [['peer', 'remove']],
  ])('of %j has examples', async (command) => {
    const { code, stdout, stderr } = await sealaned([...command, '--help']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Usage: sealaned/);
    expect(stdout).toMatch(/Examples:\n {2}sealaned /);
  });

  it('documents the exit codes, and is shown with code 2 when no command is given', async () => {
    const { code, stdout, stderr } = await sealaned([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Exit codes:');
  });
});
