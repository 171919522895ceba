/** One thing that is wrong with a configuration, in one line that a person can act on. */
export interface ConfigProblem {
  readonly file: string;
  /** From 1; 0 when it is the file as a whole. */
  readonly line: number;
  /** The key as the file format spells it, or '' when it is none in particular. */
  readonly field: string;
  /** `file:line: field: what is wrong; what to do`. Never holds a key or another value that may be secret. */
  readonly message: string;
}

/** A configuration that cannot be used. The first problem speaks; `problems` has all of them. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly file: string;
  readonly line: number;
  readonly field: string;
  readonly problems: readonly ConfigProblem[];

  /** RangeError when there is no problem to speak of. */
  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    const first = problems[0];
    if (first === undefined) throw new RangeError('problems: expected at least one');
    const more = problems.length - 1;
    super(more === 0 ? first.message : `${first.message} (and ${more} more problem${more === 1 ? '' : 's'})`, options);
    this.file = first.file;
    this.line = first.line;
    this.field = first.field;
    this.problems = problems;
  }
}

/** The problem with its message put together. */
export function problemAt(file: string, line: number, field: string, what: string): ConfigProblem {
  const place = line === 0 ? file : `${file}:${line}`;
  return { file, line, field, message: field === '' ? `${place}: ${what}` : `${place}: ${field}: ${what}` };
}
