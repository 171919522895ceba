import { readFileSync } from 'node:fs';
import { CIPHER_SUITES } from '@sealane/protocol';
import { type LaneKind, LOG_LEVELS, parseSize } from '@sealane/tunnel';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { CliError, errorLine, EXIT, type ExitCode } from './errors.ts';
import { programLog } from './output/log.ts';
import { note, styleFor } from './output/terminal.ts';
import { Stopped } from './system/stop.ts';

const EXIT_CODES = `
Exit codes:
  0    done
  1    failed
  2    bad input: an argument or a configuration is wrong, nothing was applied
  3    the server does not answer or cannot be reached
  4    the tunnel stands, but packets through it were lost
  5    no permission
  130  interrupted`;

const EXAMPLES = `
Examples:
  sealane ping wg0.conf        try a configuration, without root and without touching the system
  sealane up wg0.conf          bring the tunnel up until Ctrl-C
  sealane status --watch       look at it`;

/** Runs the command line; resolves to the exit code and never throws. Secrets are never taken from `argv`. */
export async function main(argv: readonly string[]): Promise<number> {
  process.stdout.on('error', endOnClosedPipe);
  try {
    const run = { code: EXIT.ok as ExitCode };
    await buildProgram((code) => (run.code = code)).parseAsync(argv, { from: 'user' });
    return run.code;
  } catch (error) {
    return explain(error, wantsJsonLog(argv));
  } finally {
    process.stdout.off('error', endOnClosedPipe);
  }
}

/** The command tree; `done` is told the exit code of the command that ran. */
export function buildProgram(done: (code: ExitCode) => void): Command {
  const program = new Command('sealane')
    .description('VPN client, compatible with WireGuard peers')
    .version(readVersion())
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `${EXAMPLES}\n${EXIT_CODES}`);
  const add = (name: string, description: string, ...examples: readonly string[]): Command =>
    program
      .command(name)
      .description(description)
      .addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`);

  add('genkey', 'make a private key', '(umask 077; sealane genkey > private.key)').action(async () =>
    done(await (await import('./commands/keys.ts')).genkey()),
  );
  add('genpsk', 'make a preshared key', '(umask 077; sealane genpsk > preshared.key)').action(async () =>
    done(await (await import('./commands/keys.ts')).genpsk()),
  );
  add('pubkey', 'turn a private key on standard input into its public key', 'sealane pubkey < private.key').action(
    async () => done(await (await import('./commands/keys.ts')).pubkey()),
  );
  add(
    'device',
    'make an interface and its control socket, to be configured with wg(8); takes one that exists and that no program has open, and leaves it there',
    'sealane device wg0',
    'wg setconf wg0 wg0.conf     (in another terminal)',
    'sealane device wg0 --detach     and later: sealane down wg0',
  )
    .argument('<ifname>', 'name of the interface')
    .option('--detach', 'return once the interface is ready and leave it running')
    .addOption(new Option('-f, --foreground', 'stay in the foreground, as it does anyway').conflicts('detach'))
    .addOption(laneOption())
    .addOption(lanesOption())
    .addOption(readyOption())
    .action(async (name: string, options: Parameters<typeof import('./commands/device.ts').device>[1]) => {
      checkLanes(options);
      if (options.detach !== true) (await import('./up/confine.ts')).confineDevice();
      done(await (await import('./commands/device.ts')).device(name, options));
    });
  addUp(add, done);
  add(
    'status',
    'show the tunnels that run here: peers, sessions, traffic, drops',
    'sealane status',
    'sealane status wg0 --watch',
    'sealane status wg0 --json | jq .peers',
  )
    .argument('[name]', 'name of the interface (default: all)')
    .option('--json', 'print JSON, with --watch one line a second')
    .option('--watch', 'show it anew every second until Ctrl-C')
    .action(async (name: string | undefined, options: { json?: boolean; watch?: boolean }) =>
      done(await (await import('./commands/status.ts')).status(name, options)),
    );
  add('rekey', 'renew the sessions of a running tunnel', 'sealane rekey wg0', 'sealane rekey wg0 PUBLIC-KEY')
    .argument('<name>', 'name of the interface')
    .argument('[peer]', 'public key of the peer (default: every peer with an endpoint)')
    .option('--timeout <seconds>', 'how long to wait for the new sessions', secondsOption, 10)
    .option('--json', 'print the renewed peers as JSON')
    .action(async (name: string, peer: string | undefined, options: { timeout: number; json?: boolean }) =>
      done(await (await import('./commands/control.ts')).rekey(name, peer, options)),
    );
  add('down', 'end a running tunnel, or undo what a killed one left', 'sealane down wg0', 'sealane down ./wg0.conf')
    .argument('<name>', 'name of the interface, or the file that it was brought up with')
    .action(async (name: string) => done(await (await import('./commands/control.ts')).down(name)));
  addPing(add, done);
  add(
    'doctor',
    'look for what stands in the way, here and with a configuration, and say what to do',
    'sealane doctor',
    'sealane doctor wg0.conf',
  )
    .argument('[config]', 'wg-quick style file, or the name of one')
    .option('--timeout <seconds>', 'how long to wait for each answer', secondsOption, 5)
    .option('--json', 'print the findings as JSON')
    .addOption(cipherOption())
    .addOption(permissionsOption())
    .action(async (config: string | undefined, options: Parameters<typeof import('./commands/doctor.ts').doctor>[1]) =>
      done(await (await import('./commands/doctor.ts')).doctor(config, options)),
    );
  addProxy(add, done);
  return program;
}

function addUp(add: Add, done: (code: ExitCode) => void): void {
  add(
    'up',
    'bring a tunnel up as its file says, and down again when it ends; SIGHUP reads the file again',
    'sealane up /etc/wireguard/wg0.conf',
    'sealane up wg0              /etc/sealane/wg0.conf or /etc/wireguard/wg0.conf',
    'sealane up wg0 --detach     and later: sealane down wg0',
    'sealane up office.conf --name wg1 --kill-switch',
    'sealane up wg0 --cipher aes256gcm',
  )
    .argument('<config>', 'wg-quick style file, or the name of one')
    .option('--name <ifname>', 'name of the interface (default: the file name)')
    .option('--detach', 'return once the tunnel is up and leave it running')
    .option(
      '--kill-switch',
      "let nothing out beside the tunnel (with narrow AllowedIPs: nothing that is meant for those), also when it is killed, until 'sealane down'",
    )
    .option('--user <name>', 'once the tunnel is up, run as this user, with CAP_NET_ADMIN alone')
    .option('--no-dns', 'leave the name servers as they are')
    .option(
      '--resolve-every <seconds>',
      'look endpoint names up again this often, 0 for never',
      wholeNumber(0, 86_400),
      300,
    )
    .addOption(new Option('--log-format <format>', 'how to say what happens').choices(['text', 'json']).default('text'))
    .addOption(new Option('--log-level <level>', 'the least grave of it to say').choices(LOG_LEVELS).default('info'))
    .addOption(cipherOption())
    .addOption(permissionsOption())
    .addOption(laneOption())
    .addOption(lanesOption())
    .addOption(readyOption())
    .addOption(helperOption())
    .addHelpText('after', FILE_KEYS)
    .action(async (config: string, options: Parameters<typeof import('./commands/up.ts').up>[1]) => {
      checkLanes(options);
      if (options.detach !== true) (await import('./up/confine.ts')).confineAtOnce(config, options.user);
      done(await (await import('./commands/up.ts')).up(config, options));
    });
  add(
    'sync',
    'make a running tunnel follow a changed file, without dropping sessions',
    'sealane sync wg0 /etc/wireguard/wg0.conf',
  )
    .argument('<name>', 'name of the interface')
    .argument('<config>', 'wg-quick style file, or the name of one')
    .addOption(permissionsOption())
    .action(async (name: string, config: string, options: { anyPermissions?: boolean }) =>
      done(await (await import('./commands/sync.ts')).sync(name, config, options)),
    );
}

/** The whole reference is docs/configuration.md. */
const FILE_KEYS = `
Keys beside those of wg-quick, read behind '#@ ' too, where wg sees a comment:
  RekeyInterval = 60         [Interface] or [Peer]: renew sessions earlier, 10 to 120 seconds
  Endpoint = a:51820,b:1     [Peer], behind '#@ ': further endpoints, tried when the one in use is silent
  Cipher = aes256gcm         [Peer], the same at both ends: not WireGuard-compatible
  PostQuantum = yes          [Peer], at both ends: yes, no or seconds, 10 to 86400
  Name = office              [Peer]: what messages call it
  Gateway = 10.7.0.1         [Peer]: its own addresses in the tunnel`;

type Add = (name: string, description: string, ...examples: readonly string[]) => Command;

function addPing(add: Add, done: (code: ExitCode) => void): void {
  add(
    'ping',
    'try a configuration from within this process: no root, no interface, no routes',
    'sealane ping wg0.conf',
    'sealane ping wg0.conf --count 20 --size 1000',
    'sealane ping wg0.conf --bulk 50M --rekey',
    'sealane ping wg0.conf --target 10.8.0.7 --json',
    'sealane ping wg0.conf --cipher aes256gcm',
  )
    .argument('<config>', 'wg-quick style file, or the name of one')
    .option('--count <n>', 'echo requests to send', wholeNumber(0, 1_000_000), 4)
    .option('--size <bytes>', 'bytes in an echo request', wholeNumber(0, 65_507), 56)
    .option('--timeout <seconds>', 'how long to wait for the handshake and for each echo', secondsOption, 10)
    .option('--bulk <size>', 'then send this much and check what comes back, such as 10M', sizeOption)
    .option('--rekey', 'renew the session, with --bulk in the middle of it')
    .option('--target <address>', 'inner address to ping (default: the first host of AllowedIPs)')
    .option('--force', 'also when a tunnel with the same key is up on this computer')
    .addOption(cipherOption())
    .addOption(permissionsOption())
    .option('--json', 'print the result as one JSON object')
    .action(async (config: string, options: Parameters<typeof import('./commands/ping.ts').ping>[1]) => {
      (await import('./up/confine.ts')).confineUserspace();
      done(await (await import('./commands/ping.ts')).ping(config, options));
    });
}

function addProxy(add: Add, done: (code: ExitCode) => void): void {
  add(
    'proxy',
    'bring programs into the tunnel through local ports: no root, no interface, no routes',
    'sealane proxy wg0.conf --socks5 1080 --http 3128',
    'sealane proxy wg0.conf -L 5432:db.example.org:5432 -L 5353:10.7.0.1:53/udp',
    'sealane proxy wg0.conf -R 8080:localhost:3000     what others reach at our tunnel address is dialled here',
    "ssh -o ProxyCommand='sealane proxy wg0.conf --stdio %h:%p' 10.7.0.5",
    'sealane proxy wg0.conf --socks5 0.0.0.0:1080 --auth users.txt',
  )
    .argument('<config>', 'wg-quick style file, or the name of one')
    .addOption(listOption('--socks5 <[addr:]port|path>', 'SOCKS5 with CONNECT and UDP ASSOCIATE'))
    .addOption(listOption('--http <[addr:]port|path>', 'HTTP proxy with CONNECT and plain requests'))
    .addOption(
      listOption('-L, --local <listen:host:port[/udp]>', 'forward a port or path of this computer into the tunnel'),
    )
    .addOption(
      listOption('-R, --remote <port:host:port[/udp]>', 'forward a port of our tunnel address to this computer'),
    )
    .option('--stdio <host:port>', "join standard input and output with a connection, for ssh's ProxyCommand")
    .option(
      '--auth <file>',
      'ask clients of --socks5 and --http for a user and password; the file has USER:PASSWORD lines',
    )
    .option('--login <user>', 'the same with one user, whose password is asked for now')
    .option('--expose', 'let other computers in without a password')
    .option('--name <name>', "what 'sealane status' calls it (default: the file name)")
    .addOption(cipherOption())
    .addOption(permissionsOption())
    .addOption(laneOption())
    .action(async (config: string, options: Parameters<typeof import('./commands/proxy.ts').proxy>[1]) => {
      (await import('./up/confine.ts')).confineUserspace();
      done(await (await import('./commands/proxy.ts')).proxy(config, options));
    });
}

/** What `--detach` gives to the process that it leaves in the background. */
function readyOption(): Option {
  return new Option('--ready-on-stdout', 'say there when it is ready').hideHelp();
}

/** What a command gives to itself when it starts anew with fewer privileges. */
function helperOption(): Option {
  return new Option('--hook-helper <pid,requests,answers>', 'the process that runs commands')
    .hideHelp()
    .argParser((text) => {
      const [pid, requests, answers] = text.split(',').map(Number);
      return { pid, requests, answers };
    });
}

function collect(text: string, before: readonly string[]): readonly string[] {
  return [...before, text];
}

/** May be given several times. */
function listOption(flags: string, description: string): Option {
  return new Option(flags, `${description}; may be repeated`).argParser(collect).default([], 'none');
}

function cipherOption(): Option {
  const what = "what seals the packets of every peer, in place of the file's Cipher; the other end needs the same";
  return new Option('--cipher <suite>', what).choices(CIPHER_SUITES);
}

function permissionsOption(): Option {
  return new Option(
    '--any-permissions',
    'take a file that others may read or write, or a link to one; not if it has commands that others can write',
  );
}

function laneOption(): Option {
  return new Option('--lane <lane>', 'packet loop to use').choices(['auto', 'portable', 'linux']).default('auto');
}

function lanesOption(): Option {
  return new Option('--lanes <n>', 'threads that carry packets (default: half of the cores, 1 to 4)').argParser(
    wholeNumber(1, 16),
  );
}

function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= from && value <= to))
      throw new InvalidArgumentError(`Expected a whole number from ${from} to ${to}.`);
    return value;
  };
}

function secondsOption(text: string): number {
  const value = /^[0-9]{1,6}(\.[0-9]{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value > 0 && value <= 86_400))
    throw new InvalidArgumentError('Expected seconds, more than 0 and at most 86400.');
  return value;
}

function sizeOption(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined || bytes === 0) throw new InvalidArgumentError('Expected a size such as 500K, 10M or 1G.');
  return bytes;
}

/** Also when the arguments could not be parsed. */
function wantsJsonLog(argv: readonly string[]): boolean {
  return argv.some((word, i) => word === '--log-format=json' || (word === '--log-format' && argv[i + 1] === 'json'));
}

function explain(error: unknown, inJson: boolean): number {
  if (error instanceof Stopped) return EXIT.interrupted;
  const isUsage = error instanceof CommanderError;
  if (isUsage && error.exitCode === 0) return EXIT.ok;
  // Help was asked for by leaving the command out: commander has written it.
  if (isUsage && error.code === 'commander.help') return EXIT.badInput;
  const text = errorLine(error).replace(/^error: /, '');
  if (inJson) programLog('json', 'error').entry('failed', text);
  else note(errorStyle(text));
  if (isUsage) return EXIT.badInput;
  if (process.env['SEALANE_DEBUG'] === '1' && error instanceof Error) note(error.stack ?? '');
  return error instanceof CliError ? error.exitCode : EXIT.failure;
}

function errorStyle(text: string): string {
  return styleFor(process.stderr).red(`sealane: ${text}`);
}

/** Whoever read our output has gone: there is nobody left to tell. */
function endOnClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT.failure);
}

/** The portable lane has one thread. */
function checkLanes({ lane, lanes = 1 }: { readonly lane: LaneKind | 'auto'; readonly lanes?: number }): void {
  if (lane !== 'portable' || lanes === 1) return;
  throw new CliError(EXIT.badInput, `option '--lanes ${lanes}' cannot be used with option '--lane portable'`);
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}
