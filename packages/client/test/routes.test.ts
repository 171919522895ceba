import type { Prefix } from '@sealane/protocol';
import { parsePrefix } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { addressCommands } from '../src/system/address.ts';
import { covers, planRoutes } from '../src/system/routes.ts';

function prefixes(...texts: readonly string[]): readonly Prefix[] {
  return texts.map((text) => parsePrefix(text)!);
}

describe('planRoutes', () => {
  it('adds a route for each allowed prefix, the most specific first', () => {
    expect(
      planRoutes('wg0', 'auto', prefixes('10.0.0.2/32'), prefixes('10.0.0.0/8', '192.0.2.7/32', 'fd00::/64')),
    ).toEqual({
      commands: [
        ['route', 'add', 'fd00::/64', 'dev', 'wg0'],
        ['route', 'add', '192.0.2.7/32', 'dev', 'wg0'],
        ['route', 'add', '10.0.0.0/8', 'dev', 'wg0'],
      ],
      defaults: [],
    });
  });

  it('leaves out what the own network covers', () => {
    const plan = planRoutes(
      'wg0',
      'auto',
      prefixes('10.0.0.2/24', 'fd00::2/64'),
      prefixes('10.0.0.0/24', '10.0.0.9/32', '10.0.0.0/16', 'fd00::/64'),
    );
    expect(plan.commands).toEqual([['route', 'add', '10.0.0.0/16', 'dev', 'wg0']]);
  });

  it('keeps default routes apart, IPv4 first, each once', () => {
    const plan = planRoutes(
      'wg0',
      'auto',
      prefixes('10.0.0.2/32'),
      prefixes('::/0', '0.0.0.0/0', '0.0.0.0/0', '10.0.0.0/8'),
    );
    expect(plan).toEqual({ commands: [['route', 'add', '10.0.0.0/8', 'dev', 'wg0']], defaults: [4, 6] });
  });

  it('puts all of them, default routes too, into the table that was asked for', () => {
    expect(planRoutes('wg0', 77, prefixes('10.0.0.2/8'), prefixes('0.0.0.0/0', '10.0.0.0/8'))).toEqual({
      commands: [
        ['route', 'add', '10.0.0.0/8', 'dev', 'wg0', 'table', '77'],
        ['route', 'add', '0.0.0.0/0', 'dev', 'wg0', 'table', '77'],
      ],
      defaults: [],
    });
  });

  it('adds none when it is told so', () => {
    expect(planRoutes('wg0', 'off', prefixes('10.0.0.2/32'), prefixes('0.0.0.0/0', '10.0.0.0/8'))).toEqual({
      commands: [],
      defaults: [],
    });
  });
});

describe('covers', () => {
  it.each([
    ['10.0.0.0/8', '10.255.0.0/16', true],
    ['10.0.0.5/24', '10.0.0.200/32', true],
    ['10.0.0.0/24', '10.0.1.0/24', false],
    ['10.0.0.0/24', '10.0.0.0/23', false],
    ['0.0.0.0/0', '203.0.113.0/24', true],
    ['0.0.0.0/0', '::/0', false],
    ['10.0.0.128/25', '10.0.0.127/32', false],
    ['fd00::/7', 'fc00::1/128', true],
  ])('%s of %s: %s', (outer, inner, expected) => {
    expect(covers(parsePrefix(outer)!, parsePrefix(inner)!)).toBe(expected);
  });
});

describe('addressCommands', () => {
  it('keeps host bits and brings the interface up last', () => {
    expect(addressCommands('wg0', prefixes('10.0.0.2/24', 'fd00::2/64'), 1_400)).toEqual([
      ['address', 'add', '10.0.0.2/24', 'dev', 'wg0'],
      ['address', 'add', 'fd00::2/64', 'dev', 'wg0'],
      ['link', 'set', 'mtu', '1400', 'up', 'dev', 'wg0'],
    ]);
  });
});
