import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ConfigError, loadConfig, ResolveError, resolveEndpoints, toUpdate } from '@sealane/tunnel';
import type { ResolvedEndpoints, TunnelConfig, TunnelUpdate } from '@sealane/tunnel';
import { badInput, CliError, EXIT } from './errors.ts';

/** Where a bare name is looked for, as wg-quick does. */
const FOLDERS = ['/etc/sealane', '/etc/wireguard'];
const SUFFIX = '.conf';

/** Reads a configuration file; CliError of one line for what is wrong with it. */
export async function readConfig(path: string): Promise<TunnelConfig> {
  try {
    return await loadConfig(path);
  } catch (error) {
    if (error instanceof ConfigError) throw badInput(error.message, error);
    throw error;
  }
}

/** `wg0` stands for /etc/sealane/wg0.conf or /etc/wireguard/wg0.conf unless a file of that name is here. */
export function configPath(given: string): string {
  if (given.includes('/') || given.endsWith(SUFFIX) || given === '-' || existsSync(given)) return given;
  return FOLDERS.map((folder) => join(folder, given + SUFFIX)).find((path) => existsSync(path)) ?? given;
}

/** The interface that a file is for: its name without `.conf`. */
export function interfaceNameOf(path: string): string {
  const name = basename(path, SUFFIX);
  if (!/^[a-zA-Z0-9_=+.-]{1,15}$/.test(name)) {
    throw badInput(`${path}: the file name gives no interface name of 1 to 15 letters or digits: add --name NAME`);
  }
  return name;
}

/** Looks the endpoints up; CliError that says which name has no address. */
export async function resolveConfig(
  config: TunnelConfig,
): Promise<{ readonly update: TunnelUpdate; readonly resolved: ResolvedEndpoints }> {
  try {
    const resolved = await resolveEndpoints(config);
    return { update: toUpdate(config, resolved), resolved };
  } catch (error) {
    if (error instanceof ResolveError) throw new CliError(EXIT.noAnswer, error.message, { cause: error });
    throw error;
  }
}
