/**
 * The real programs that manage name servers, each run in a mount namespace of its own in a host of a lab, where /run is empty and what
 * they write stays. Their packages would change the machine's own name servers when they were installed: CI only unpacks them.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute, missing, until } from './lab.ts';
import type { Host, Running } from './lab.ts';

export type ResolverName = 'openresolv' | 'systemd-resolved';

const PACKAGES = fileURLToPath(new URL('../../.cache/resolvers', import.meta.url));

const BUS = `<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>`;

const PRIVATE_RUN = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/bin /run/netns
`;

const SET_UP: Readonly<Record<ResolverName, string>> = {
  openresolv: `${openresolvInto('/run', '/run/resolv.conf')}
echo ready; exec sleep infinity`,
  // It looks for a user to become.
  'systemd-resolved': `
mkdir -p /run/dbus /run/systemd/resolve
ln -s ${PACKAGES}/systemd-resolved/usr/bin/resolvectl /run/bin/
for file in passwd group; do
  cp /etc/$file /run/$file
  grep -q ^systemd-resolve: /run/$file || echo systemd-resolve:x:996:$([ $file = group ] || echo '996::/:/usr/sbin/nologin') >> /run/$file
  mount --bind /run/$file /etc/$file
done
chown systemd-resolve:systemd-resolve /run/systemd/resolve
echo '${BUS.replaceAll('\n', ' ')}' > /run/dbus/system.conf
dbus-daemon --config-file=/run/dbus/system.conf --fork
${PACKAGES}/systemd-resolved/lib/systemd/systemd-resolved &
until [ -e /run/systemd/resolve/resolv.conf ]; do sleep 0.05; done
echo ready; wait`,
};

/** A script that puts openresolv into a folder, to write name servers to `file`. Its paths are fixed when it is packaged. */
export function openresolvInto(folder: string, file: string): string {
  return `
mkdir -p ${folder}/bin ${folder}/openresolv
cp -r ${PACKAGES}/openresolv/lib/resolvconf ${folder}/openresolv/lib
cp ${PACKAGES}/openresolv/sbin/resolvconf ${folder}/bin/
find ${folder}/bin ${folder}/openresolv -type f -exec sed -i \\
  's#^SYSCONFDIR=.*#SYSCONFDIR=${folder}/openresolv#; s#^LIBEXECDIR=.*#LIBEXECDIR=${folder}/openresolv/lib#' {} +
echo 'resolv_conf=${file}' > ${folder}/openresolv/resolvconf.conf`;
}

/** Why this program cannot run here, or undefined when it can. */
export function missingResolver(name: ResolverName): string | undefined {
  if (!existsSync(join(PACKAGES, name))) return `needs Debian's ${name}, unpacked by .ci/run`;
  return missing('unshare', 'nsenter', ...(name === 'systemd-resolved' ? ['dbus-daemon'] : []));
}

/** A host's name servers under the care of one program. */
export class Resolver {
  readonly #host: Host;
  readonly #name: ResolverName;
  readonly #keeper: Running;
  readonly #pid: string;

  private constructor(host: Host, name: ResolverName, keeper: Running, pid: string) {
    this.#host = host;
    this.#name = name;
    this.#keeper = keeper;
    this.#pid = pid;
  }

  static async start(host: Host, name: ResolverName): Promise<Resolver> {
    const keeper = host.start('unshare', ['-m', 'bash', '-c', `echo $$; ${PRIVATE_RUN}${SET_UP[name]}`]);
    await until(`${name} to run`, () => {
      if (keeper.child.exitCode !== null) throw new Error(`${name} cannot run: ${keeper.stderr}`);
      return keeper.stdout.includes('ready');
    });
    return new Resolver(host, name, keeper, keeper.stdout.split('\n')[0]!);
  }

  /** A command line that runs a program beside it. */
  beside(...command: readonly string[]): readonly [string, readonly string[]] {
    const path = `PATH=/run/bin:${process.env['PATH']}`;
    return ['nsenter', ['-t', this.#pid, '-m', 'env', path, ...command]];
  }

  /** The name servers and search domains of the host now, as resolv.conf(5) has them. */
  async resolvConf(): Promise<string> {
    const file = this.#name === 'openresolv' ? '/run/resolv.conf' : '/run/systemd/resolve/resolv.conf';
    const [program, args] = this.beside('cat', file);
    const { stdout } = await this.#host.run(program, args);
    return stdout.replaceAll(/^(#.*)?\n/gm, '');
  }

  /** What the program knows of one interface. */
  async knows(link: string): Promise<string> {
    const words = this.#name === 'openresolv' ? ['resolvconf', '-l'] : ['resolvectl', 'status', link];
    const [program, args] = this.beside(...words);
    const { stdout, stderr } = await execute('ip', ['netns', 'exec', this.#host.name, program, ...args]);
    return stdout + stderr;
  }

  async stop(): Promise<void> {
    await this.#keeper.stop('SIGKILL');
  }
}
