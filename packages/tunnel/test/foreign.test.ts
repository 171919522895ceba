import { describe, expect, it } from 'vitest';
import { foreign } from '../src/linux/foreign.ts';

describe.skipIf(process.platform !== 'linux')('a C function', () => {
  it('is declared once, however often it is asked for', () => {
    const getpid = foreign('int getpid()');
    expect(getpid()).toBe(process.pid);
    expect(foreign('int getpid()')).toBe(getpid);
  });
});
