import type { CipherSuite } from '@sealane/protocol';
import { ConfigError, loadConfig, ResolveError, resolveEndpoints, toUpdate } from '@sealane/tunnel';
import type { ResolvedEndpoints, TunnelConfig, TunnelUpdate } from '@sealane/tunnel';
import { badInput, CliError, EXIT } from './errors.ts';

/** Reads a configuration file; `cipher` replaces every peer's own. CliError of one line for what is wrong with it. */
export async function readConfig(path: string, cipher?: CipherSuite): Promise<TunnelConfig> {
  try {
    const config = await loadConfig(path);
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
