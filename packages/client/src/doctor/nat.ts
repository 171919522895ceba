/** Signs of an address translation between this computer and its endpoints, and what it means for a tunnel. Nothing is sent. */
import {
  formatAddress,
  parseAddress,
  parsePrefix,
  peerEndpoints,
  peerLabel,
  type ResolvedEndpoints,
  type TunnelConfig,
} from '@sealane/tunnel';
import { runProgram } from '../system/program.ts';
import { covers } from '../system/routes.ts';
import { good, hint, type Finding } from './finding.ts';

/** RFC 1918 and RFC 4193: addresses that are not seen outside. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'].map((text) => parsePrefix(text)!);
/** RFC 6598: behind a carrier's own translation, which nobody here can open a port in. */
const SHARED = parsePrefix('100.64.0.0/10')!;

/** `mark` is that of the datagrams, which policy rules ask for; 0 is none. */
export async function examineNat(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  mark: number,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const peer of config.peers) {
    const [endpoint] = peer.endpoints.length === 0 ? [] : peerEndpoints(peer, resolved);
    if (endpoint === undefined) continue;
    const source = await sourceTo(endpoint.address, mark);
    const kind = source === undefined ? undefined : natBetween(source, endpoint.address);
    const keepsOpen = (peer.persistentKeepalive ?? 0) > 0;
    if (kind === undefined || source === undefined) {
      if (keepsOpen) continue;
      const what = `behind a NAT ${peerLabel(peer)} cannot reach this computer while it is idle`;
      findings.push(hint('NAT', what, 'if it has to, write PersistentKeepalive = 25'));
      continue;
    }
    const what = `${formatAddress(source)} is ${kind}: ${peerLabel(peer)} sees another one`;
    if (keepsOpen) findings.push(good('NAT', `${what}, and keepalives hold the way open`));
    else findings.push(hint('NAT', what, 'if it has to reach this computer, write PersistentKeepalive = 25'));
  }
  return findings;
}

/** What stands between the two, as far as addresses tell; undefined when they may well see each other as they are. */
function natBetween(source: Uint8Array, destination: Uint8Array): string | undefined {
  const within = (prefix: typeof SHARED, address: Uint8Array): boolean =>
    covers(prefix, { address, length: address.length * 8 });
  const isPrivate = (address: Uint8Array): boolean => PRIVATE.some((prefix) => within(prefix, address));
  if (isPrivate(destination) || within(SHARED, destination) || destination[0] === 127) return undefined;
  if (within(SHARED, source)) return 'an address of a carrier-grade NAT';
  return isPrivate(source) ? 'a private address' : undefined;
}

/** The address that the system would send from. */
async function sourceTo(destination: Uint8Array, mark: number): Promise<Uint8Array | undefined> {
  const marked = mark === 0 ? [] : ['mark', String(mark)];
  const { status, stdout } = await runProgram('ip', ['route', 'get', formatAddress(destination), ...marked]);
  const text = /\bsrc (\S+)/.exec(stdout)?.[1];
  return status === 0 && text !== undefined ? parseAddress(text) : undefined;
}
