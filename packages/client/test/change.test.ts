import { generatePrivateKey } from '@sealane/protocol';
import { parseConfig, type TunnelConfig } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { checkChange } from '../src/up/change.ts';

const key = Buffer.from(generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length)))).toString(
  'base64',
);

function config(...lines: readonly string[]): TunnelConfig {
  return parseConfig(['[Interface]', `PrivateKey = ${key}`, ...lines].join('\n'), 'wg0.conf');
}

describe('checkChange', () => {
  it('takes commands that stand in other lines than before', () => {
    const before = config('PostUp = true', 'PreDown = false');
    const after = config('# new', 'PreDown = false', 'ListenPort = 5', 'PostUp = true');
    expect(() => checkChange(before, after, 'wg0.conf')).not.toThrow();
  });

  it.each([
    [['PostUp = true'], ['PostUp = false'], 'PostUp'],
    [['PostUp = true'], ['PreUp = true'], 'PreUp'],
    [['PostUp = a', 'PostUp = b'], ['PostUp = b', 'PostUp = a'], 'PostUp'],
    [['Table = off'], [], 'Table'],
    [['FwMark = 5'], ['FwMark = 6'], 'FwMark'],
  ])('refuses what cannot change under a tunnel: %j, then %j', (before, after, field) => {
    expect(() => checkChange(config(...before), config(...after), 'wg0.conf')).toThrow(
      `wg0.conf: ${field} cannot change while the tunnel is up: take it down and up again`,
    );
  });
});
