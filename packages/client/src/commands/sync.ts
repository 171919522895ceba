import { resolve } from 'node:path';
import { ControlError, requestConfigure, requestReload } from '@sealane/tunnel';
import { readConfig, resolveConfig } from '../config-file.ts';
import { configPath, refusePipe } from '../config-path.ts';
import { CliError, EXIT, type ExitCode } from '../errors.ts';
import { interfacePath } from '../hosting.ts';
import { reach } from './control.ts';

const EINVAL = 22;
const EOPNOTSUPP = 95;

/**
 * Makes a running tunnel follow a file: one of `sealane up` with all that it sets, any other as `wg syncconf` does.
 * Sessions of peers that stay are not touched.
 */
export async function sync(
  name: string,
  given: string,
  options: { readonly anyPermissions?: boolean },
): Promise<ExitCode> {
  const socket = interfacePath(name);
  const path = configPath(given);
  refusePipe(path, 'a tunnel follows a file: name one');
  const config = await readConfig(path, options);
  const { update } = await resolveConfig(config);
  try {
    await reach(name, () => requestReload(socket, resolve(path)));
    return EXIT.ok;
  } catch (error) {
    const refused = error instanceof CliError && error.cause instanceof ControlError ? error.cause : undefined;
    if (refused === undefined || refused.errno === 0) throw error;
    if (refused.errno !== EOPNOTSUPP) {
      const why = refused.reason ?? refused.message;
      const code = refused.errno === EINVAL ? EXIT.badInput : EXIT.failure;
      throw new CliError(code, `${name} did not take ${path} over: ${why}`, { cause: error });
    }
  }
  await reach(name, () => requestConfigure(socket, update));
  return EXIT.ok;
}
