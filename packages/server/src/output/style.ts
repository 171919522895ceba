import pc from 'picocolors';

/** The few colours in use; all of them plain text unless the stream is a terminal. */
export interface Style {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly red: (text: string) => string;
}

export function styleFor(stream: { readonly isTTY?: boolean }): Style {
  return pc.createColors(stream.isTTY === true && pc.isColorSupported);
}
