import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { interfaceOfTable, tableName } from '../src/linux/table-name.ts';

// What is most likely to meet what stands for something else comes up most often.
const char = fc.constantFrom(...Array.from('_=+.-_=+_3d2b5faAxyz09'));
const name = fc.string({ unit: char, minLength: 1, maxLength: 15 });

describe('names of tables', () => {
  it('hold nothing that nftables does not take, and tell the interface', () => {
    fc.assert(
      fc.property(name, (text) => {
        const table = tableName('sealane-kill-', text);
        expect(table).toMatch(/^[A-Za-z][A-Za-z0-9_.-]*$/);
        expect(interfaceOfTable('sealane-kill-', table)).toBe(text);
        expect(interfaceOfTable('sealane-guard-', table)).toBeUndefined();
      }),
      { numRuns: 5_000, seed: 3 },
    );
  });

  it('stay as people write them where they can', () => {
    expect(tableName('t-', 'wg_home.0-a')).toBe('t-wg_home.0-a');
    expect(tableName('t-', 'a=+')).toBe('t-a_3d_2b');
    expect(tableName('t-', 'a_3d')).toBe('t-a_5f3d');
  });
});
