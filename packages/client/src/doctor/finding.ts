/** One thing that was looked at. */
export interface Finding {
  readonly state: 'good' | 'hint' | 'bad';
  /** What was looked at, one or two words. */
  readonly subject: string;
  readonly what: string;
  /** What to do about it; present unless all is well. */
  readonly remedy?: string;
}

export function good(subject: string, what: string): Finding {
  return { state: 'good', subject, what };
}

/** It works, and could work better. */
export function hint(subject: string, what: string, remedy: string): Finding {
  return { state: 'hint', subject, what, remedy };
}

export function bad(subject: string, what: string, remedy: string): Finding {
  return { state: 'bad', subject, what, remedy };
}
