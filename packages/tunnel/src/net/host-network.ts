/** The computer's own network in the shape that tunnels have. */
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { connect, createServer } from 'node:net';
import type { NetworkStack } from './types.ts';

export const hostNetwork: NetworkStack = {
  connect: (options) => connect(options),
  createServer: (options, listener) => createServer(options, listener),
  createSocket: (type) => createSocket(type),
  resolve: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
};
