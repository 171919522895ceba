import type { CipherSuite } from '@sealane/protocol';
import { ConfigError, loadConfig, ResolveError, resolveEndpoints, toUpdate } from '@sealane/tunnel';
import type { ResolvedEndpoints, TunnelConfig, TunnelUpdate } from '@sealane/tunnel';
import { badInput, CliError, EXIT } from './errors.ts';
import { note } from './output/terminal.ts';

export interface ReadOptions {
  /** Replaces every peer's own. */
  readonly cipher?: CipherSuite;
  /** As for `loadConfig`. */
  readonly anyPermissions?: boolean;
  /** Hears of what is taken and is most likely a mistake; standard error says it otherwise. */
  readonly warn?: (what: string) => void;
}

/** Reads a configuration file; CliError of one line for what is wrong with it. */
export async function readConfig(path: string, options: ReadOptions = {}): Promise<TunnelConfig> {
  const { cipher, anyPermissions = false, warn = (what) => note(`sealane: ${what}`) } = options;
  try {
    const config = await loadConfig(path, { anyPermissions, warn: ({ message }) => warn(message) });
    return cipher === undefined ? config : { ...config, peers: config.peers.map((peer) => ({ ...peer, cipher })) };
  } catch (error) {
    if (error instanceof ConfigError) throw badInput(error.message, error);
    throw error;
  }
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
