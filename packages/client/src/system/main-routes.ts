/** The routes that the system has without us. */
import type { Prefix } from '@sealane/protocol';
import { parsePrefix } from '@sealane/tunnel';
import { runProgram } from './program.ts';

export interface Route {
  readonly prefix: Prefix;
  /** Where it leads, for people: a link, or what the system does instead. */
  readonly to: string;
}

/** `ip route` begins those that lead nowhere with the way in which they refuse. */
const NOWHERE = /^(blackhole|unreachable|prohibit|throw) /;

/** Of the main tables of both families, what does not lead to `ownLink`. */
export async function mainRoutes(ownLink: string): Promise<readonly Route[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => runProgram('ip', [family, 'route', 'show', 'table', 'main'])),
  );
  return texts.flatMap(({ stdout }, i) =>
    stdout.split('\n').flatMap((line) => {
      const nowhere = NOWHERE.exec(line)?.[1];
      const [destination = ''] = line.slice(nowhere === undefined ? 0 : nowhere.length + 1).split(' ');
      const to = nowhere ?? /\bdev (\S+)/.exec(line)?.[1];
      const prefix = parsePrefix(destination === 'default' ? ['0.0.0.0/0', '::/0'][i]! : destination);
      // Every link has a route for its own addresses.
      const isOther = to !== undefined && to !== ownLink && prefix !== undefined && destination !== 'fe80::/64';
      return isOther ? [{ prefix, to }] : [];
    }),
  );
}
