/** Where a peer's outer datagrams go, and from which local address: plain data, compared by value. */
export interface Endpoint {
  /** 4 bytes (IPv4) or 16 bytes (IPv6), network order. */
  readonly address: Uint8Array;
  readonly port: number;
  /** Interface index of a link-local IPv6 address, else 0. */
  readonly scopeId: number;
  /** The local address that the peer spoke to; answers leave from it (sticky source). */
  readonly source?: { readonly address: Uint8Array; readonly interfaceIndex: number };
}

/** True when both name the same remote address and port; the local source does not count. */
export function sameRemote(a: Endpoint, b: Endpoint): boolean {
  return a === b || (a.port === b.port && a.scopeId === b.scopeId && sameBytes(a.address, b.address));
}

/** True when remote and local source are the same. */
export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  if (a === b) return true;
  if (!sameRemote(a, b)) return false;
  if (a.source === undefined || b.source === undefined) return a.source === b.source;
  return a.source.interfaceIndex === b.source.interfaceIndex && sameBytes(a.source.address, b.source.address);
}

/** The endpoint without its pinned local source. */
export function withoutSource(endpoint: Endpoint): Endpoint {
  if (endpoint.source === undefined) return endpoint;
  return { address: endpoint.address, port: endpoint.port, scopeId: endpoint.scopeId };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
