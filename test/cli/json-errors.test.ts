/** With `--log-format json` the error that ends a program is one line of JSON too, so that whoever reads the log needs no second reader. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, SEALANE, SEALANED } from './client-support.ts';

const nowhere = join(tmpdir(), 'sealane-that-never-is');
const file = join(nowhere, 'slnever.conf');
const noServer = `${nowhere} does not exist: make a server with 'sealaned init' first`;

const CASES: readonly (readonly [program: string, words: readonly string[], message: RegExp | string])[] = [
  [SEALANE, ['up', file], `${file}: does not exist`],
  [SEALANE, ['up', file, '--no-such-option'], "unknown option '--no-such-option'"],
  [SEALANE, ['up', file, '--lanes', '99'], /^option '--lanes <n>' argument '99' is invalid\. /],
  [SEALANED, ['run', '--state', nowhere], noServer],
  [SEALANED, ['run', '--no-such-option'], "unknown option '--no-such-option'"],
  [SEALANED, ['run', '--lanes', '99'], /^option '--lanes <n>' argument '99' is invalid\. /],
];

describe.each(CASES)('%s %j', (program, words, message) => {
  it.each([[['--log-format', 'json']], [['--log-format=json']]])('says it in JSON with %j', async (format) => {
    const [command, ...rest] = words;
    const outcome = await run([process.execPath, program, command!, ...format, ...rest]);
    expect([outcome.code, outcome.stdout]).toEqual([2, '']);
    expect(outcome.stderr).toMatch(/^[^\n]+\n$/);
    expect(JSON.parse(outcome.stderr)).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
      level: 'error',
      event: 'failed',
      message: typeof message === 'string' ? message : (expect.stringMatching(message) as string),
    });
  });

  it('says it in words otherwise, under the name of the program', async () => {
    const outcome = await run([process.execPath, program, ...words], '', { NO_COLOR: '1' });
    const name = program === SEALANE ? 'sealane' : 'sealaned';
    expect([outcome.code, outcome.stdout]).toEqual([2, '']);
    const [line, rest] = outcome.stderr.split('\n', 2);
    expect(rest).toBe('');
    expect(line).toMatch(new RegExp(`^${name}: `));
    expect(line!.slice(name.length + 2)).toMatch(message);
  });
});

it('sealaned run --json says it in JSON too', async () => {
  const outcome = await run([process.execPath, SEALANED, 'run', '--json', '--state', nowhere]);
  expect(outcome.code).toBe(2);
  expect(JSON.parse(outcome.stderr)).toMatchObject({ level: 'error', event: 'failed', message: noServer });
});
