import { describe, expect, it } from 'vitest';
import { formatRule, parseRule, Policy, type Rule } from '../../src/userspace/policy.ts';

const rules = (...texts: readonly string[]): readonly Rule[] => texts.map((text) => parseRule(text)!);
const POOL = parseRule('10.7.0.0/24')!.prefix;

describe('a policy without rules', () => {
  const policy = new Policy({ peerNetworks: [POOL] });

  it.each(['192.0.2.1', '10.8.0.1', '192.168.1.1', '2001:db8::1', 'fd12::1'])('lets peers reach %s', (address) => {
    expect(policy.allows(address, 443)).toBe(true);
  });

  it.each([
    ['this computer', '127.0.0.1'],
    ['this computer', '127.255.0.3'],
    ['this computer', '::1'],
    ['this computer, as any address', '0.0.0.0'],
    ['this computer, as any address', '::'],
    ['this computer, mapped', '::ffff:127.0.0.1'],
    ['this computer, translated', '64:ff9b::7f00:1'],
    ['this computer, by 6to4', '2002:7f00:1::1'],
    ['the link', '169.254.0.9'],
    ['the link', 'fe80::1'],
    ['a metadata service', '169.254.169.254'],
    ['a metadata service', 'fd00:ec2::254'],
    ['a metadata service', '100.100.100.200'],
    ['a metadata service', '192.0.0.192'],
    ['a metadata service', 'fd20:ce::254'],
    ['a metadata service', 'fd00:c1::a9fe:a9fe'],
    ['a metadata service', 'fd00:42::42'],
    ['a metadata service, translated', '64:ff9b::a9fe:a9fe'],
    ['a metadata service, translated by the network itself', '64:ff9b:1::a9fe:a9fe'],
    ['a group', '224.0.0.1'],
    ['a group', 'ff02::1'],
    ['everybody', '255.255.255.255'],
    ['another peer', '10.7.0.9'],
    ['what is no address', 'localhost'],
  ])('keeps peers from %s: %s', (_what, address) => {
    expect(policy.allows(address, 80)).toBe(false);
  });
});

describe('a policy', () => {
  it('allows nothing else once it allows something', () => {
    const policy = new Policy({ allow: rules('192.168.0.0/16', '192.0.2.7:80,8000-8002') });
    expect(policy.allows('192.168.3.4', 22)).toBe(true);
    expect([80, 8000, 8002, 81, 8003].map((port) => policy.allows('192.0.2.7', port))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(policy.allows('192.0.2.8', 80)).toBe(false);
    expect(policy.allows('2001:db8::1', 80)).toBe(false);
  });

  it('opens what is protected only for who names it, and the rest stays open', () => {
    const policy = new Policy({ allow: rules('127.0.0.1/32:8080'), peerNetworks: [POOL] });
    expect(policy.allows('127.0.0.1', 8080)).toBe(true);
    expect(policy.allows('127.0.0.1', 22)).toBe(false);
    expect(policy.allows('127.0.0.2', 8080)).toBe(false);
    expect(policy.allows('192.0.2.1', 80)).toBe(true);
    expect(new Policy({ allow: rules('0.0.0.0/0', '::/0') }).allows('127.0.0.1', 8080)).toBe(false);
    expect(new Policy({ allow: rules('0.0.0.0/0', '::/0') }).allows('::1', 8080)).toBe(false);
    for (const address of [
      '192.0.0.192',
      'fd20:ce::254',
      'fd00:c1::a9fe:a9fe',
      'fd00:42::42',
      '64:ff9b:1::a9fe:a9fe',
    ]) {
      expect(new Policy({ allow: rules('0.0.0.0/0', '::/0', 'fd00::/8') }).allows(address, 80)).toBe(false);
      expect(new Policy({ allow: rules(address) }).allows(address, 80)).toBe(true);
    }
  });

  it('lets the narrower rule decide, and the denying one of equals', () => {
    const policy = new Policy({
      allow: rules('10.0.0.0/8', '10.1.2.3'),
      deny: rules('10.1.0.0/16', '10.2.0.0/16:22', '10.0.0.0/8:23'),
    });
    expect(policy.allows('10.9.0.1', 22)).toBe(true);
    expect(policy.allows('10.1.0.1', 22)).toBe(false);
    expect(policy.allows('10.1.2.3', 22)).toBe(true);
    expect([22, 80].map((port) => policy.allows('10.2.0.1', port))).toEqual([false, true]);
    expect(policy.allows('10.9.0.1', 23)).toBe(false);
    expect(new Policy({ allow: rules('10.0.0.0/8'), deny: rules('10.0.0.0/8') }).allows('10.0.0.1', 1)).toBe(false);
  });

  it('denies what it is told and allows the rest', () => {
    const policy = new Policy({ deny: rules('192.168.0.0/16', '[2001:db8::/32]:25') });
    expect(policy.allows('192.168.1.1', 80)).toBe(false);
    expect(policy.allows('192.0.2.1', 80)).toBe(true);
    expect([25, 80].map((port) => policy.allows('2001:db8::1', port))).toEqual([false, true]);
  });
});

describe('a rule', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3/32'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.0.0.0/8:443', '10.0.0.0/8:443'],
    ['10.0.0.0/8:80,8000-8100', '10.0.0.0/8:80,8000-8100'],
    ['fd00::/8', 'fd00::/8'],
    ['::1', '::1/128'],
    ['[fd00::/8]:443', '[fd00::/8]:443'],
  ])('%s is read as %s', (text, shown) => {
    expect(formatRule(parseRule(text)!)).toBe(shown);
  });

  it.each([
    '',
    'example.org',
    '10.0.0.0/33',
    '10.0.0.1:0',
    '10.0.0.1:70000',
    '10.0.0.1:9-8',
    '10.0.0.1:1-2-3',
    '10.0.0.1:',
    '[fd00::/8',
    '300.0.0.1',
  ])('%j is none', (text) => {
    expect(parseRule(text)).toBeUndefined();
  });
});
