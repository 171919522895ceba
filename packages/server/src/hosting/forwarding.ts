/** Forwarding of packets between interfaces (ip-sysctl): turned on for the peers and put back exactly. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type Family = 'ipv4' | 'ipv6';

/** Values of settings by their path under /proc/sys/net, in the order in which they are to be written. */
export type Settings = readonly (readonly [path: string, value: string])[];

const ROOT = '/proc/sys/net';
const ALL: Readonly<Record<Family, string>> = { ipv4: 'ipv4/ip_forward', ipv6: 'ipv6/conf/all/forwarding' };

/** True when packets of this family are forwarded between any interfaces. */
export function isForwarding(family: Family): boolean {
  return read(ALL[family]) === '1';
}

/**
 * Turns forwarding on; resolves to what undoes it, which is nothing when it was on. Writing the one switch sets all
 * interfaces, so each is noted; a host that took its routes from advertisements goes on doing so (accept_ra = 2).
 */
export function enableForwarding(family: Family): Settings {
  if (isForwarding(family)) return [];
  const interfaces = readdirSync(join(ROOT, family, 'conf')).filter((name) => name !== 'all');
  const before: (readonly [string, string])[] = [[ALL[family], '0']];
  const note = (path: string): string => {
    const value = read(path);
    before.push([path, value]);
    return value;
  };
  for (const name of interfaces) note(`${family}/conf/${name}/forwarding`);
  if (family === 'ipv6') {
    for (const name of interfaces) {
      const path = `ipv6/conf/${name}/accept_ra`;
      if (note(path) === '1') write(path, '2');
    }
  }
  write(ALL[family], '1');
  return before;
}

/** Writes settings back; those of interfaces that are gone are gone with them. */
export function restore(settings: Settings): void {
  for (const [path, value] of settings) {
    if (read(path) !== value && read(path) !== '') write(path, value);
  }
}

function read(path: string): string {
  try {
    return readFileSync(join(ROOT, path), 'ascii').trim();
  } catch {
    return '';
  }
}

function write(path: string, value: string): void {
  writeFileSync(join(ROOT, path), value);
}
