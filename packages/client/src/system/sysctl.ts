/** Settings of the kernel's network (sysctl(8)), by their names. */
import { readFileSync, writeFileSync } from 'node:fs';
import { CliError, errorCode, EXIT } from '../errors.ts';

/** Makes the reverse path filter look at marked packets' own route (ip-sysctl). */
export const SRC_VALID_MARK = 'net.ipv4.conf.all.src_valid_mark';

/** Lets an address live on when the first one of its network is deleted (ip-sysctl); goes with the interface. */
export function promoteSecondaries(link: string): string {
  return `net.ipv4.conf.${link}.promote_secondaries`;
}

export function readSetting(name: string): string {
  return readFileSync(pathOf(name), 'ascii').trim();
}

/** Writes what is not so already, on this thread: others may have fewer privileges. CliError with the remedy. */
export function writeSetting(name: string, value: string): void {
  if (readSetting(name) === value) return;
  try {
    writeFileSync(pathOf(name), value);
  } catch (cause) {
    const why = errorCode(cause) ?? String(cause);
    const where = name.includes('.conf.all.') ? name : name.replace(/\.conf\..*\./, '.conf.default.');
    const remedy = `where /proc/sys is read-only, start the container with '--sysctl ${where}=${value}'`;
    throw new CliError(EXIT.failure, `${name} cannot be set to ${value} (${why}): ${remedy}`, { cause });
  }
}

/** An interface's name may have dots in it, the others have none. */
function pathOf(name: string): string {
  const [head = '', link, last] = /^(.*\.conf)\.(.*)\.(\w+)$/.exec(name)?.slice(1) ?? [name];
  return `/proc/sys/${[head.replaceAll('.', '/'), ...(link === undefined ? [] : [link, last])].join('/')}`;
}
