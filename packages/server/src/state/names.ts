import { parseAddress } from '@sealane/tunnel';

const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const HOST_NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*\\.?$`);

/** True for a name that a peer may have: safe as a file name and on a terminal. */
export function isPeerName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text);
}

/** True for HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address in brackets. */
export function isEndpoint(text: string): boolean {
  return endpointPort(text) !== undefined;
}

/** The port of HOST:PORT, or undefined when the text is not one. */
export function endpointPort(text: string): number | undefined {
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain, digits] = match;
  const port = Number(digits);
  if (port < 1 || port > 65_535) return undefined;
  const isHost = bracketed === undefined ? isHostNameOrIpv4(plain!) : parseAddress(bracketed)?.length === 16;
  return isHost ? port : undefined;
}

/** True for what a client's `DNS =` may hold: the address of a name server or a search domain. */
export function isDnsServer(text: string): boolean {
  return parseAddress(text) !== undefined || isHostName(text);
}

function isHostNameOrIpv4(text: string): boolean {
  return parseAddress(text)?.length === 4 || isHostName(text);
}

/** All-numeric names are mistyped addresses, not names. */
function isHostName(text: string): boolean {
  return HOST_NAME.test(text) && !/^[0-9.]+$/.test(text);
}
