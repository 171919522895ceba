/** What gathers outside of the JavaScript heap, in processes of their own. */
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';

const HEAP = new URL('../dist/heap.js', import.meta.url).href;

/** Runs it with `memory()`: MiB outside of the heap. Returns the list that it leaves in `seen`. */
function run(script: string): unknown {
  const whole = `
    import { IdleCollector } from '${HEAP}';
    const memory = () => Math.round(process.memoryUsage().arrayBuffers / 2 ** 20);
    const seen = [];
    ${script}
    console.log(JSON.stringify([seen, typeof globalThis.gc]));`;
  return JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', whole], { encoding: 'utf8', timeout: 30_000 }),
  );
}

/** They become old objects, as sessions do, and then nobody holds them: 20 MiB. */
const SESSIONS = `
    let sessions = [];
    for (let i = 0; i < 20_000; i++) sessions.push(new Uint8Array(1024));
    for (let i = 0; i < 2_000_000; i++) sessions.spare = [i];
    sessions = [];`;

it('what old objects leave is collected in an idle moment, every five minutes', () => {
  const script = `${SESSIONS}
    const collector = new IdleCollector(1000);
    for (const now of [1000, 300_999]) seen.push(collector.idle(now), memory());
    seen.push(collector.idle(301_000));
    // Another thread frees it.
    while (memory() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    seen.push(collector.idle(301_001), collector.idle(601_000));`;
  expect(run(script)).toEqual([[false, 20, false, 20, true, false, true], 'undefined']);
});

it('a large heap is left to V8', () => {
  const script = `
    const live = [];
    for (let i = 0; i < 1_000_000; i++) live.push({ i });
    seen.push(new IdleCollector(0).idle(300_000), live.length);`;
  expect(run(script)).toEqual([[false, 1_000_000], 'undefined']);
});

it('threads that collect at the same time do not disturb each other', () => {
  const script = `
    import { isMainThread, Worker } from 'node:worker_threads';
    const source = 'import { IdleCollector } from "${HEAP}";'
      + 'for (let now = 1; now < 40; now++) new IdleCollector(0).idle(now * 300_000);';
    const workers = Array.from({ length: 4 }, () => new Worker(new URL('data:text/javascript,' + encodeURIComponent(source))));
    const ends = workers.map((worker) => new Promise((resolve) => {
      worker.on('error', (error) => resolve(String(error)));
      worker.on('exit', (code) => resolve(code));
    }));
    seen.push(...await Promise.all(ends));`;
  expect(run(script)).toEqual([[0, 0, 0, 0], 'undefined']);
});
