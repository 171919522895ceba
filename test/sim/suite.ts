/** Runs one scenario with many seeds, goes on after a failure, and says at the end which seeds failed and which was worst. */
import { appendFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { seeds } from './world.ts';

export type Figures = Readonly<Record<string, number>>;

export interface Suite {
  /** The goal that it measures. */
  readonly goal: string;
  readonly title: string;
  /** Seeds in an everyday run; the long run takes as many as it was asked for, but no more than `most`. */
  readonly seeds: number;
  readonly most?: number;
  /** Seeds that failed once: they run every time. */
  readonly always?: readonly number[];
  /** Throws when the seed fails; else says what it measured. */
  readonly run: (seed: number) => Figures;
  /** The figure whose largest value makes a seed the worst one. */
  readonly worst: string;
  /** Judges what only all seeds together show. */
  readonly judge?: (all: readonly Figures[]) => void;
}

/** `npm run sim` sets it. */
const ASKED = Number(process.env['SEALANE_SEEDS'] ?? 0);
const FIRST = Number(process.env['SEALANE_FIRST'] ?? 1);
const ONLY = process.env['SEALANE_SUITE'];
export const isLongRun: boolean = ASKED > 0;

export interface SuiteResult {
  readonly goal: string;
  readonly title: string;
  readonly seeds: number;
  readonly passed: number;
  readonly failures: readonly string[];
  readonly worstSeed: number;
  readonly figure: string;
  readonly worst: number;
  readonly median: number;
  readonly ms: number;
}

export function simulate(suite: Suite): void {
  if (ONLY !== undefined && ONLY !== suite.goal) return;
  const count = isLongRun ? Math.min(ASKED, suite.most ?? ASKED) : suite.seeds;
  it(`${suite.goal}: ${suite.title}`, { timeout: isLongRun ? 0 : 120_000 }, () => {
    const began = performance.now();
    const failures: string[] = [];
    const all: Figures[] = [];
    const measured: { readonly seed: number; readonly value: number }[] = [];
    const given = seeds(count, isLongRun ? FIRST : 1);
    if (given.length > 1) given.push(...(suite.always ?? []).filter((seed) => !given.includes(seed)));
    for (const seed of given) {
      try {
        const figures = suite.run(seed);
        all.push(figures);
        measured.push({ seed, value: figures[suite.worst] ?? 0 });
      } catch (error) {
        failures.push(`SEALANE_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    measured.sort((a, b) => a.value - b.value);
    const worst = measured.at(-1);
    report({
      goal: suite.goal,
      title: suite.title,
      seeds: given.length,
      passed: all.length,
      failures: failures.slice(0, 5),
      worstSeed: worst?.seed ?? 0,
      figure: suite.worst,
      worst: worst?.value ?? 0,
      median: measured[measured.length >> 1]?.value ?? 0,
      ms: performance.now() - began,
    });
    expect(failures).toEqual([]);
    suite.judge?.(all);
  });
}

/** Fails a seed with what it should have been. */
export function require(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function report(result: SuiteResult): void {
  const file = process.env['SEALANE_SIM_REPORT'];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(result)}\n`);
}
