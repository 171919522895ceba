import type { Reporter, TestCase, TestModule } from 'vitest/node';

/**
 * Prints `N passed, N failed` (and `, N skipped` if any) as the run's last line, before it the tests that passed only when
 * they were tried again; a file that fails to load counts as one failure.
 */
export class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 };
    for (const module of modules) {
      if (module.errors().length > 0) count.failed += 1;
      for (const test of module.children.allTests()) {
        count[test.result().state] += 1;
        if (test.diagnostic()?.flaky === true) process.stdout.write(`${flaky(module, test)}\n`);
      }
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) count.failed += 1;
    }
    const skipped = count.skipped + count.pending;
    process.stdout.write(
      `${count.passed} passed, ${count.failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`,
    );
  }
}

function flaky(module: TestModule, test: TestCase): string {
  const [first] = test.result().errors ?? [];
  return `passed at the second try: ${module.relativeModuleId} > ${test.fullName}: ${first?.message ?? 'no reason'}`;
}
