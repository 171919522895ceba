/** `sealane up` beside the real programs that manage name servers. */
import { describe, expect, it } from 'vitest';
import { clientFile, systemOf, twoHosts } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, type Running, until } from '../support/lab.ts';
import { missingResolver, Resolver, type ResolverName } from '../support/resolvers.ts';

const NAMES: readonly ResolverName[] = ['openresolv', 'systemd-resolved'];

describe.for(NAMES)('name servers of a tunnel, with %s', (name) => {
  const reason = missingResolver(name);

  it.for(['SIGTERM', 'SIGKILL'] as const)(
    'are set, and as they were after %s',
    { timeout: 120_000 },
    async (signal, { skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const resolver = await Resolver.start(a, name);
      const [before, system] = [await resolver.resolvConf(), await systemOf(a)];
      const link = lab.interfaceName('a');
      const file = await lab.file(
        `${link}.conf`,
        clientFile('0.0.0.0/0, ::/0', 'DNS = 10.88.0.1, fd08::1, corp.example'),
      );
      const running = await upBeside(resolver, lab, a, file);

      const during = await resolver.resolvConf();
      expect(during).toContain('nameserver 10.88.0.1\nnameserver fd08::1\n');
      expect(during).toContain('search corp.example\n');
      // Everything goes through the tunnel: so do all questions.
      if (name === 'systemd-resolved') expect(await resolver.knows(link)).toMatch(/DNS Domain: corp\.example ~\.\n/);
      else expect(await resolver.knows(link)).toContain(link);

      await running.stop(signal);
      if (signal === 'SIGKILL') {
        const [again, words] = resolver.beside(process.execPath, SEALANE, 'down', link);
        expect((await a.run(again, words)).code).toBe(0);
      }
      await until('the name servers to be as they were', async () => (await resolver.resolvConf()) === before);
      expect(await systemOf(a)).toBe(system);
      await resolver.stop();
    },
  );

  it('follow the file of a running tunnel', { timeout: 120_000 }, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const resolver = await Resolver.start(a, name);
    const before = await resolver.resolvConf();
    const link = lab.interfaceName('a');
    const path = await lab.file(`${link}.conf`, clientFile('10.88.0.0/24', 'DNS = 10.88.0.1, corp.example'));
    const running = await upBeside(resolver, lab, a, path);
    const follow = async (dns: string): Promise<string> => {
      await lab.file(`${link}.conf`, clientFile('10.88.0.0/24', dns));
      const [again, words] = resolver.beside(process.execPath, SEALANE, 'sync', link, path);
      const { code, stderr } = await a.run(again, words);
      expect(stderr + running.stderr).not.toContain('not reloaded');
      expect(code).toBe(0);
      return resolver.knows(link);
    };
    // wg-quick asks for the tunnel's servers alone (-x), however little it carries; systemd-resolved's word for that is `~.`.
    const known = await resolver.knows(link);
    if (name === 'openresolv') expect(known).toContain('search corp.example');
    else expect(known).toMatch(/DNS Domain: corp\.example ~\.\n/);

    const withoutSearch = await follow('DNS = 10.88.0.9');
    expect(withoutSearch).toContain('10.88.0.9');
    expect(withoutSearch).not.toMatch(/10\.88\.0\.1\b|corp\.example/);
    expect(await follow('')).not.toContain('10.88.0.9');
    await until('the name servers to be as they were', async () => (await resolver.resolvConf()) === before);
    expect(await running.stop()).toBe(0);
    await resolver.stop();
  });
});

/** `sealane up`, beside the program that manages the name servers of the host. */
async function upBeside(resolver: Resolver, lab: Lab, host: Host, file: string): Promise<Running> {
  const [program, args] = resolver.beside(process.execPath, SEALANE, 'up', file);
  const running = host.start(program, args, { STATE_DIRECTORY: lab.folder });
  const ready = (): boolean => running.stderr.includes(' is up: ') || running.child.exitCode !== null;
  await until('the tunnel to be up', ready, 45_000);
  if (running.child.exitCode !== null) throw new Error(running.stderr);
  return running;
}
