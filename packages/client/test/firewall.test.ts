import type { Prefix } from '@sealane/protocol';
import { parsePrefix } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { guardTable, killSwitchScript, killSwitchTable, takesEverything } from '../src/system/firewall.ts';

const EVERY_EIGHTH = [0, 32, 64, 96, 128, 160, 192, 224].map((first) => `${first}.0.0.0/3`);

function prefixes(texts: readonly string[]): readonly Prefix[] {
  return texts.map((text) => parsePrefix(text)!);
}

describe('takesEverything', () => {
  it.each([
    [true, ['0.0.0.0/0']],
    [true, ['::/0']],
    [true, ['128.0.0.0/1', '0.0.0.0/1']],
    [true, ['10.0.0.0/8', '::/1', '8000::/1']],
    [true, EVERY_EIGHTH],
    [true, [...EVERY_EIGHTH, '10.0.0.0/8', '0.0.0.0/2']],
    [false, EVERY_EIGHTH.slice(1)],
    [false, EVERY_EIGHTH.toSpliced(3, 1)],
    [false, EVERY_EIGHTH.slice(0, -1)],
    [false, ['0.0.0.0/1', '8000::/1']],
    [false, []],
  ])('is %s for %j', (expected, texts) => {
    expect(takesEverything(prefixes(texts))).toBe(expected);
  });

  it('decides what the kill switch refuses', () => {
    expect(killSwitchScript('wg0', prefixes(['0.0.0.0/1', '128.0.0.0/1']), 5)).toContain(
      '    counter reject with icmpx admin-prohibited\n',
    );
    const narrow = killSwitchScript('wg0', prefixes(['0.0.0.0/1']), 5);
    expect(narrow).not.toContain('    counter reject');
    expect(narrow).toContain('ip daddr @tunnelled4 counter reject with icmpx admin-prohibited');
  });
});

describe('the tables of tunnels', () => {
  it('are two for each name, and no two names share one', () => {
    const names = [
      'x',
      'x-kill',
      'kill-x',
      'guard-x',
      'kill',
      'guard',
      '-',
      'x_kill',
      'x-kill-kill',
      'a=',
      'a_3d',
      'a_5f3d',
      'a__3d',
    ];
    const tables = names.flatMap((name) => [guardTable(name), killSwitchTable(name)]);
    expect(new Set(tables).size).toBe(2 * names.length);
    for (const table of tables) expect(table).toMatch(/^[A-Za-z][A-Za-z0-9_.-]*$/);
  });
});
