import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { notifyServiceManager } from '../src/linux/notify.ts';
import { NotifySocket } from './support/notify-socket.ts';

describe.skipIf(process.platform !== 'linux')('notifyServiceManager', () => {
  it('sends the state to the socket that it is given', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sealane-notify-'));
    try {
      using socket = new NotifySocket(join(folder, 'notify'));
      expect(notifyServiceManager('READY=1\nMAINPID=7', socket.path)).toBe(true);
      expect(socket.receive()).toBe('READY=1\nMAINPID=7');
      expect(notifyServiceManager('READY=1', join(folder, 'nobody'))).toBe(false);
      expect(notifyServiceManager('READY=1', 'relative')).toBe(false);
      expect(notifyServiceManager('READY=1', `/${'x'.repeat(200)}`)).toBe(false);
      expect(socket.receive()).toBe('');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
