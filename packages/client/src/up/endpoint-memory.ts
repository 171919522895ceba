/** Endpoint names that cannot be looked up behind a kill switch: what they stood for is in the journal. */
import {
  formatEndpoint,
  parseEndpoint,
  ResolveError,
  resolveEndpoints,
  type ResolvedEndpoints,
  type TunnelConfig,
} from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import type { JournalRecord } from '../system/journal.ts';

/** Looks every endpoint up, and takes what is remembered of names that fail; CliError when nothing is. */
export async function resolveOrRemember(
  config: TunnelConfig,
  remembered: JournalRecord['endpoints'],
): Promise<ResolvedEndpoints> {
  try {
    return await resolveEndpoints(config);
  } catch (error) {
    if (!(error instanceof ResolveError)) throw error;
    const known = recall(remembered);
    const missing = config.peers.some(
      ({ endpoints }) => endpoints.length > 0 && !endpoints.some((text) => known.has(text) || parseEndpoint(text)),
    );
    if (missing) throw new CliError(EXIT.noAnswer, error.message, { cause: error });
    for (const text of config.peers.flatMap((peer) => peer.endpoints)) {
      const literal = parseEndpoint(text);
      if (literal !== undefined) known.set(text, [literal]);
    }
    return known;
  }
}

/** As the journal keeps it. */
export function remember(resolved: ResolvedEndpoints): JournalRecord['endpoints'] {
  return Object.fromEntries([...resolved].map(([text, endpoints]) => [text, endpoints.map(formatEndpoint)]));
}

function recall(remembered: JournalRecord['endpoints']): Map<string, ReturnType<typeof literals>> {
  return new Map(Object.entries(remembered).map(([text, list]) => [text, literals(list)]));
}

function literals(list: readonly string[]): NonNullable<ReturnType<typeof parseEndpoint>>[] {
  return list.map((text) => parseEndpoint(text)).filter((endpoint) => endpoint !== undefined);
}
