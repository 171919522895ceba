/** Where peers were last, so that a restarted server can begin the handshakes that they do not know are needed. */
import { readFileSync } from 'node:fs';
import { formatKey, parseKey, type PeerUpdate, REJECT_AFTER_TIME } from '@sealane/protocol';
import { formatEndpoint, type Log, parseEndpoint, type Tunnel } from '@sealane/tunnel';
import { errorLine } from '../errors.ts';
import { replaceFile } from '../state/file.ts';

const DELAY_MS = 300;
/** With very many peers the file is large. */
const MOST_WRITES = 20;

/** The endpoints of peers whose sessions may be alive at `now` (Unix milliseconds); an unreadable file is an empty one. */
export function recallEndpoints(
  path: string,
  now: number,
): readonly Required<Pick<PeerUpdate, 'publicKey' | 'endpoint'>>[] {
  // Base64 key to [endpoint, time of the last handshake in Unix milliseconds], if nobody changed the file.
  let remembered: Readonly<Record<string, unknown>>;
  try {
    remembered = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, unknown>>;
  } catch {
    return [];
  }
  return Object.entries(remembered).flatMap(([key, entry]) => {
    if (!Array.isArray(entry)) return [];
    const publicKey = parseKey(key);
    const endpoint = parseEndpoint(String(entry[0]));
    const age = now - Number(entry[1]);
    const isFresh = age < REJECT_AFTER_TIME && age > -REJECT_AFTER_TIME;
    return publicKey === undefined || endpoint === undefined || !isFresh ? [] : [{ publicKey, endpoint }];
  });
}

/** Writes the endpoints (mode 0600) soon after each new session or move; resolves to what stops it. */
export function rememberEndpoints(path: string, tunnel: Tunnel, log: Log): () => Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let cost = 0;
  const write = async (): Promise<void> => {
    timer = undefined;
    const begin = performance.now();
    const { device } = await tunnel.status();
    const entries = device.peers.flatMap(({ publicKey, endpoint, lastHandshake }) =>
      endpoint === undefined || lastHandshake === undefined
        ? []
        : [[formatKey(publicKey), [formatEndpoint(endpoint), lastHandshake]]],
    );
    replaceFile(path, JSON.stringify(Object.fromEntries(entries)));
    cost = performance.now() - begin;
  };
  const writeSoon = (): void => {
    timer ??= setTimeout(
      () => {
        write().catch((error: unknown) => {
          const reason = errorLine(error);
          log.limited('endpoints-not-kept', `endpoints cannot be written: ${reason}`, { reason });
        });
      },
      Math.max(DELAY_MS, MOST_WRITES * cost),
    ).unref();
  };
  const stops = [tunnel.on('session', writeSoon), tunnel.on('roamed', writeSoon)];
  return async () => {
    for (const stop of stops) stop();
    clearTimeout(timer);
    await write().catch(() => undefined);
  };
}
