import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { addressOf, closeDescriptor, foreign } from '../src/linux/foreign.ts';
import { notifyServiceManager } from '../src/linux/notify.ts';

/** A datagram socket of the kind that the service manager has; node makes none. */
function receiver(path: string): { readonly fd: number; receive(): string } {
  const fd = foreign('int socket(int, int, int)')(1, 2 | 0o2004000, 0);
  const name = new TextEncoder().encode(path);
  const address = new Uint8Array(new ArrayBuffer(2 + name.length + 1));
  address[0] = 1;
  address.set(name, 2);
  if (foreign('int bind(int, uintptr_t, unsigned int)')(fd, addressOf(address), address.length) !== 0) {
    throw new Error(`cannot bind ${path}`);
  }
  return {
    fd,
    receive: () => {
      const bytes = new Uint8Array(new ArrayBuffer(256));
      const length = foreign('long recv(int, uintptr_t, size_t, int)')(fd, addressOf(bytes), bytes.length, 0);
      return new TextDecoder().decode(bytes.subarray(0, Math.max(0, length)));
    },
  };
}

describe.skipIf(process.platform !== 'linux')('notifyServiceManager', () => {
  it('sends the state to the socket that it is given', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sealane-notify-'));
    const socket = receiver(join(folder, 'notify'));
    try {
      expect(notifyServiceManager('READY=1\nMAINPID=7', join(folder, 'notify'))).toBe(true);
      expect(socket.receive()).toBe('READY=1\nMAINPID=7');
      expect(notifyServiceManager('READY=1', join(folder, 'nobody'))).toBe(false);
      expect(notifyServiceManager('READY=1', 'relative')).toBe(false);
      expect(notifyServiceManager('READY=1', `/${'x'.repeat(200)}`)).toBe(false);
      expect(socket.receive()).toBe('');
    } finally {
      closeDescriptor(socket.fd);
      rmSync(folder, { recursive: true });
    }
  });
});
