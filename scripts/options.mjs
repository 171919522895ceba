/** What a script is told on its command line: `--help`, and one line with exit code 2 for what it does not know. */
import { parseArgs } from 'node:util';

/**
 * @template {NonNullable<import('node:util').ParseArgsConfig['options']>} const T
 * @param {string} script what its messages begin with
 * @param {string} usage
 * @param {T} options
 * @param {readonly string[]} [words] what else it may be told; anything when it is empty, nothing when it is absent
 * @returns {{ values: ReturnType<typeof parseArgs<{ options: T }>>['values'], positionals: string[] }}
 */
export function readOptions(script, usage, options, words) {
  const { values, positionals } = parse(script, options, words !== undefined);
  if (values['help']) {
    console.log(`usage: ${usage}`);
    process.exit(0);
  }
  const unknown = words?.length === 0 ? undefined : positionals.find((word) => words?.includes(word) !== true);
  if (unknown !== undefined) refuse(script, `'${unknown}' is not one of ${words?.join(', ')}`);
  return { values: /** @type {any} */ (values), positionals };
}

/**
 * @param {string} script
 * @param {string} why
 * @returns {never}
 */
export function refuse(script, why) {
  console.error(`${script}: ${why}`);
  process.exit(2);
}

/**
 * @param {string} script
 * @param {NonNullable<import('node:util').ParseArgsConfig['options']>} options
 * @param {boolean} allowPositionals
 */
function parse(script, options, allowPositionals) {
  try {
    return parseArgs({
      options: { ...options, help: { type: 'boolean', short: 'h', default: false } },
      allowPositionals,
    });
  } catch (error) {
    return refuse(script, error instanceof Error ? error.message : String(error));
  }
}
