/** What comes through a pipe can be read once: a tunnel that has to read it again, or in another process, refuses it in words. */
import { describe, expect, it } from 'vitest';
import { requestReload } from '@sealane/tunnel';
import { clientFile, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Result, until } from '../support/lab.ts';

const reason = missing('bash', 'mkfifo');

/** Runs a line of bash with "$sealane" in it; killed when it hangs. */
function bash(host: Host, lab: Lab, line: string): Promise<Result> {
  const script = `sealane() { timeout -s KILL 30 ${process.execPath} ${SEALANE} "$@"; }; ${line}`;
  return host.run('env', [`STATE_DIRECTORY=${lab.folder}`, 'bash', '-c', script]);
}

describe.skipIf(reason !== undefined)(`pipes in place of files (${reason ?? 'in a namespace'})`, () => {
  it('cannot be followed by a running tunnel, which goes on as it was', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const text = clientFile('10.88.0.0/24');
    const running = await up(lab, a, name, text);
    const fifo = `${lab.folder}/fifo`;
    await a.must('mkfifo', ['-m', '600', fifo]);
    const file = `${lab.folder}/${name}.conf`;
    for (const line of [`sealane sync ${name} ${fifo}`, `sealane sync ${name} <(cat ${file})`]) {
      const { code, stderr } = await bash(a, lab, line);
      expect(stderr).toMatch(/^sealane: \S+: is a pipe: a tunnel follows a file: name one\n$/);
      expect(code).toBe(2);
    }
    // Whoever asks the control socket itself is refused too, and nothing hangs.
    await expect(requestReload(`/var/run/wireguard/${name}.sock`, fifo)).rejects.toThrow();
    await until('the log to say why', () => running.stderr.includes(`not reloaded: ${fifo}: is a pipe`));
    expect(await bash(a, lab, `sealane sync ${name} ${file}`)).toMatchObject({ code: 0, stderr: '' });
    expect(await running.stop()).toBe(0);
  });

  it('cannot be read by a tunnel in the background', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
    const lines = [
      `cat ${file} | sealane up - --detach --name ${name}`,
      `sealane up <(cat ${file}) --detach --name ${name}`,
    ];
    for (const line of lines) {
      const { code, stderr } = await bash(a, lab, line);
      expect(stderr).toMatch(/^sealane: \S+.*: is a pipe: --detach needs a file\n$/);
      expect(code).toBe(2);
    }
    expect(await systemOf(a)).toBe(before);
  });
});
