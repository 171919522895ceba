import { readFileSync } from 'node:fs';
import { CIPHER_SUITES } from '@sealane/protocol';
import { createLog, LOG_LEVELS } from '@sealane/tunnel';
import { Command, CommanderError, Option } from 'commander';
import { down } from './commands/down.ts';
import { init, type InitOptions } from './commands/init.ts';
import { peerAdd, type PeerAddOptions } from './commands/peer-add.ts';
import { peerList } from './commands/peer-list.ts';
import { peerRemove } from './commands/peer-remove.ts';
import { peerShow } from './commands/peer-show.ts';
import { peerSet, type PeerSetOptions } from './commands/peer-set.ts';
import type { RunOptions } from './commands/run.ts';
import { status } from './commands/status.ts';
import { errorLine, InputError } from './errors.ts';
import * as parse from './options.ts';
import { defaultStatePath } from './state/folder.ts';

const EXIT_CODES = `
Exit codes:
  0  done
  1  it cannot be done as things are: there is such a peer already, another server runs, the system refuses
  2  wrong input: an argument, or a state file that is broken or open to others; nothing was changed`;

/** Runs one command; resolves to the exit code of the process. */
export async function main(argv: readonly string[]): Promise<number> {
  // Whoever reads the help may leave; what must be read checks its own writes.
  process.stdout.on('error', () => undefined);
  try {
    await buildProgram().parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // Help was asked for by leaving the command out: commander has written it.
      if (error.code !== 'commander.help') complain(error.message.replace(/^error: /, ''), error, argv);
      return 2;
    }
    complain(errorLine(error), error, argv);
    return error instanceof InputError ? 2 : 1;
  }
}

function complain(text: string, error: unknown, argv: readonly string[]): void {
  const write = (line: string): boolean => process.stderr.write(`${line}\n`);
  if (wantsJsonLog(argv)) createLog({ format: 'json', level: 'error', write }).entry('failed', text);
  else write(`sealaned: ${errorLine(text)}`);
  if (process.env['SEALANE_DEBUG'] === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
}

/** Also when the arguments could not be parsed; "--json" of other commands is about what they print. */
function wantsJsonLog(argv: readonly string[]): boolean {
  const isPair = argv.some((word, i) => word === '--log-format' && argv[i + 1] === 'json');
  return isPair || argv.includes('--log-format=json') || (argv[0] === 'run' && argv.includes('--json'));
}

/** The command tree. */
export function buildProgram(): Command {
  const root = new Command('sealaned')
    .description('The Sealane VPN server, compatible with WireGuard peers.')
    .version(readVersion())
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showHelpAfterError(false)
    .helpCommand(false)
    .addHelpText(
      'after',
      `${EXIT_CODES}\n${examples(
        'sealaned init --endpoint vpn.example.org:51820 --pool 10.7.0.0/24,fd07::/64',
        'sealaned peer add alice --out alice.conf',
        'sealaned run',
      )}`,
    );

  command(root, 'init', 'make the keys and the address pool of a new server')
    .requiredOption('--endpoint <host:port>', 'where clients reach this server', parse.endpointOption)
    .requiredOption('--pool <cidr[,cidr6]>', "the peers' addresses; the first is the server's own", parse.poolOption)
    .addOption(
      new Option('--dns <list>', 'name servers and search domains for the clients')
        .argParser(parse.dnsOption)
        .default([], 'none'),
    )
    .option('--mtu <bytes>', 'largest packet inside the tunnel', parse.mtuOption, 1_420)
    .addHelpText(
      'after',
      examples(
        'sealaned init --endpoint vpn.example.org:51820 --pool 10.7.0.0/24',
        'sealaned init --endpoint [2001:db8::1]:51820 --pool 10.7.0.0/24,fd07::/64 --dns 10.7.0.1',
      ),
    )
    .action((options: InitOptions) => init(options));

  command(root, 'run', 'run the server in the foreground; SIGTERM and SIGINT end it, SIGHUP reads the peers again')
    .option('--userspace', 'no TUN interface: needs no permission (the default where TUN is not permitted)', false)
    .option('--interface <name>', "name of the TUN interface, 'sealane0' if not given", parse.interfaceOption)
    .option('--lane <kind>', 'how packets are moved: portable, linux or auto', parse.laneOption, 'auto' as const)
    .option('--lanes <n>', 'threads that carry packets (default: half of the cores, 1 to 4)', parse.lanesOption)
    .option('--listen <port>', "UDP port, the endpoint's if not given; 0 takes any free one", parse.portOption)
    .addOption(
      new Option(
        '--allow <cidr[:ports]>',
        'peers reach this and nothing else, unless it only opens what is protected; may be repeated',
      )
        .argParser(parse.ruleOption)
        .default([], "all but loopback, link-local and the other peers' addresses"),
    )
    .addOption(
      new Option('--deny <cidr[:ports]>', 'peers do not reach this; the narrower rule decides')
        .argParser(parse.ruleOption)
        .default([], 'nothing more'),
    )
    .addOption(
      new Option('--limit <what=value>', 'what a peer may hold in userspace, by all its addresses; may be repeated')
        .argParser(parse.limitOption)
        .default({}, 'connections=2048, half-open=256, flows=1024, memory=32M'),
    )
    .option('--peer-to-peer', 'peers reach each other too, with a TUN interface', false)
    .option('--no-nat', 'with a TUN interface peers keep their addresses: your router must know the way to them')
    .option('--no-forwarding', 'with a TUN interface leave forwarding, NAT and firewall to you')
    .option('--user <name>', 'once it serves, run as this user, whose the state folder has to be')
    .option('--json', 'log lines as JSON', false)
    .addOption(
      new Option('--log-format <format>', 'json is the same as --json').choices(['text', 'json']).default('text'),
    )
    .addOption(
      new Option('--log-level <level>', 'the least grave entries to write').choices(LOG_LEVELS).default('info'),
    )
    .addHelpText(
      'after',
      examples(
        'sealaned run',
        'sealaned run --userspace --json',
        'sealaned run --userspace --allow 192.168.0.0/16 --allow 127.0.0.1/32:8080',
        'sealaned run --userspace --limit connections=200 --limit memory=8M',
        'sealaned run --interface wg0 --listen 51820',
      ),
    )
    .action(async (options: RunOptions, self: Command) => {
      checkTogether(options, self);
      // What only a running server needs is not loaded for the short commands.
      const { run } = await import('./commands/run.ts');
      await run(options);
    });

  command(root, 'down', 'undo what a killed server left on this host; a running one is refused')
    .addHelpText('after', examples('sealaned down', 'sealaned down --state /srv/sealane'))
    .action((options: { state: string }) => down(options));

  command(root, 'status', 'say whether the server runs, and how it does')
    .option('--json', 'as JSON', false)
    .addHelpText('after', examples('sealaned status', 'sealaned status --json'))
    .action((options: { state: string; json: boolean }) => status(options));

  addPeerCommands(root);
  return root;
}

/** What needs a TUN interface or several threads is refused where there are none, not passed over. */
function checkTogether(options: RunOptions, self: Command): void {
  const { userspace, lane, lanes = 1 } = options;
  const refused = userspace
    ? [
        options.interface !== undefined && '--interface <name>',
        options.lanes !== undefined && '--lanes <n>',
        options.peerToPeer && '--peer-to-peer',
        !options.nat && '--no-nat',
        !options.forwarding && '--no-forwarding',
      ].find((option) => option !== false)
    : lane === 'portable' && lanes > 1 && `--lanes ${lanes}`;
  if (typeof refused !== 'string') return;
  const other = userspace ? '--userspace' : '--lane portable';
  self.error(`error: option '${other}' cannot be used with option '${refused}'`);
}

function addPeerCommands(root: Command): void {
  const peer = root
    .command('peer')
    .description('add, list, show, change and remove peers; a running server follows at once')
    .helpCommand(false)
    .addHelpText('after', examples('sealaned peer add alice', 'sealaned peer list', 'sealaned peer remove alice'));

  command(peer, 'add', 'add a peer and print its configuration, with a QR code on a terminal')
    .argument('<name>', 'what to call it', parse.nameArgument)
    .option('--out <file>', 'write the configuration to a new file that only you can read')
    .option('--public-key <key>', "the peer's own public key: its private key is then never here")
    .option('--no-psk', 'without a preshared key')
    .option(
      '--allowed-ips <list>',
      'what the client sends through the tunnel, if not just the pool',
      parse.prefixesOption,
    )
    .option(
      '--post-quantum',
      'hedge its sessions against a later quantum computer, when its client is Sealane too',
      false,
    )
    .addOption(
      new Option('--cipher <suite>', 'what seals its packets; aes256gcm only when its client is Sealane too')
        .choices(CIPHER_SUITES)
        .default('chacha20poly1305'),
    )
    .option('--keepalive <seconds>', 'how often an idle client sends something, 0 for never', parse.keepaliveOption, 0)
    .addHelpText(
      'after',
      examples(
        'sealaned peer add alice --out alice.conf',
        'sealaned peer add bob --post-quantum --out bob.conf',
        'sealaned peer add carol --cipher aes256gcm --out carol.conf',
        'sealaned peer add phone --allowed-ips 0.0.0.0/0,::/0 --keepalive 25',
        'sealaned peer add bob --public-key "$(cat bob.pub)" --out bob.conf',
      ),
    )
    .action((name: string, options: PeerAddOptions) => peerAdd(name, options));

  command(peer, 'list', 'list all peers, with live data while the server runs')
    .option('--json', 'as JSON', false)
    .addHelpText('after', examples('sealaned peer list', 'sealaned peer list --json'))
    .action((options: { state: string; json: boolean }) => peerList(options));

  command(peer, 'show', 'show one peer, with live data while the server runs')
    .argument('<name>', 'the peer', parse.nameArgument)
    .option('--json', 'as JSON', false)
    .addHelpText('after', examples('sealaned peer show alice', 'sealaned peer show alice --json'))
    .action((name: string, options: { state: string; json: boolean }) => peerShow(name, options));

  command(peer, 'set', 'change what a peer and its client have to agree on; the client needs the same')
    .argument('<name>', 'the peer', parse.nameArgument)
    .addOption(
      new Option('--cipher <suite>', 'what seals its packets; a change ends its sessions').choices(CIPHER_SUITES),
    )
    .option('--post-quantum', 'hedge its sessions against a later quantum computer')
    .option('--no-post-quantum', 'do not')
    .option(
      '--forget-timestamp',
      'take its handshakes again after its clock was ahead, or its key used by another with such a clock; ends its sessions',
    )
    .addHelpText(
      'after',
      examples(
        'sealaned peer set alice --cipher aes256gcm',
        'sealaned peer set bob --no-post-quantum',
        'sealaned peer set carol --forget-timestamp',
      ),
    )
    .action((name: string, options: PeerSetOptions) => peerSet(name, options));

  command(peer, 'remove', 'remove a peer; its session ends at once')
    .argument('<name>', 'the peer', parse.nameArgument)
    .addHelpText('after', examples('sealaned peer remove alice'))
    .action((name: string, options: { state: string }) => peerRemove(name, options));
}

/** A command with what all of them share. */
function command(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .allowExcessArguments(false)
    .option('--state <dir>', 'the folder that holds the server', defaultStatePath());
}

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}
