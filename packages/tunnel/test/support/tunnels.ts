import { expect } from 'vitest';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import type { PeerUpdate } from '@sealane/protocol';
import { EchoClient, EchoHost, memoryPair, openTunnel } from '@sealane/tunnel';
import type { Tunnel, TunnelOptions } from '@sealane/tunnel';

export interface Identity {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

export interface Ends {
  readonly client: Tunnel;
  readonly server: Tunnel;
  readonly echo: EchoClient;
  readonly host: EchoHost;
  readonly clientKeys: Identity;
  readonly serverKeys: Identity;
  close(): Promise<void>;
}

/** `expect` on what becomes true in a while. */
export function eventually<T>(read: () => T): ReturnType<typeof expect.poll<T>> {
  return expect.poll(read, { timeout: 10_000, interval: 20 });
}

export const LOOPBACK: Uint8Array = new Uint8Array([127, 0, 0, 1]);
export const CLIENT4: Uint8Array = new Uint8Array([127, 77, 0, 2]);
export const SERVER4: Uint8Array = new Uint8Array([127, 77, 0, 1]);
export const CLIENT6: Uint8Array = new Uint8Array([0xfd, ...Array<number>(14).fill(0), 2]);
export const SERVER6: Uint8Array = new Uint8Array([0xfd, ...Array<number>(14).fill(0), 1]);

export function identity(): Identity {
  const privateKey = generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length)));
  return { privateKey, publicKey: nobleCrypto.publicKey(privateKey) };
}

export function loopback(port: number): NonNullable<PeerUpdate['endpoint']> {
  return { address: LOOPBACK, port, scopeId: 0 };
}

/** Two tunnels of this process, joined through real UDP sockets: an echo client behind one, an echo host behind the other. */
export async function openEnds(
  options: {
    readonly endpoint?: (serverPort: number) => PeerUpdate['endpoint'];
    readonly peer?: Partial<PeerUpdate>;
    readonly tunnel?: Partial<TunnelOptions>;
    readonly mtu?: number;
  } = {},
): Promise<Ends> {
  const clientKeys = identity();
  const serverKeys = identity();
  const mtu = options.mtu ?? 1420;
  const [serverDevice, hostDevice] = memoryPair({ mtu, name: 'server' });
  const [clientDevice, echoDevice] = memoryPair({ mtu, name: 'client' });
  const host = new EchoHost({ device: hostDevice, addresses: [SERVER4, SERVER6] });
  const echo = new EchoClient({ device: echoDevice, addresses: [CLIENT4, CLIENT6] });
  const server = await openTunnel({
    device: serverDevice,
    crypto: nobleCrypto,
    config: {
      privateKey: serverKeys.privateKey,
      peers: [{ publicKey: clientKeys.publicKey, allowedIps: [prefix(CLIENT4), prefix(CLIENT6)], ...options.peer }],
    },
  });
  const { listenPort } = await server.status();
  const endpoint = options.endpoint === undefined ? loopback(listenPort) : options.endpoint(listenPort);
  const client = await openTunnel({
    device: clientDevice,
    crypto: nobleCrypto,
    ...options.tunnel,
    config: {
      privateKey: clientKeys.privateKey,
      peers: [
        {
          publicKey: serverKeys.publicKey,
          allowedIps: [prefix(SERVER4), prefix(SERVER6)],
          ...(endpoint !== undefined && { endpoint }),
          ...options.peer,
        },
      ],
    },
  });
  const close = async (): Promise<void> => {
    await Promise.all([client.close(), server.close(), echo.close(), host.close()]);
  };
  return { client, server, echo, host, clientKeys, serverKeys, close };
}

function prefix(address: Uint8Array): { readonly address: Uint8Array; readonly length: number } {
  return { address, length: address.length * 8 };
}
