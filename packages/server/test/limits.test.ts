import { describe, expect, it } from 'vitest';
import { limitOption } from '../src/options.ts';

describe('--limit', () => {
  it('reads what a peer may hold, one bound after the other', () => {
    const limits = ['connections=200', 'half-open=20', 'flows=1', 'memory=8M'].reduce(
      (before, text) => limitOption(text, before),
      {},
    );
    expect(limits).toEqual({
      maxConnectionsPerSource: 200,
      maxHalfOpenPerSource: 20,
      maxUdpFlowsPerSource: 1,
      maxBufferBytesPerSource: 8 * 2 ** 20,
    });
    expect(limitOption('memory=1g', {})).toEqual({ maxBufferBytesPerSource: 2 ** 30 });
  });

  it.each([
    '',
    'connections',
    'connections=',
    'connections=-1',
    'connections=0',
    'connections=1k',
    'memory=1M5',
    'x=1',
  ])('refuses %j', (text) => expect(() => limitOption(text, {})).toThrow(/expected|at least/));

  it.each(['memory=100', 'memory=127K', 'toString=1'])('refuses %j', (text) =>
    expect(() => limitOption(text, {})).toThrow(/expected|at least/),
  );
});
