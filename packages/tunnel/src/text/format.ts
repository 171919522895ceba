/** Quantities and lines of text for people. */
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** Bytes for people, such as 1.5 MiB. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < UNITS.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Bits a second for people, such as 943.2 Mbit/s. */
export function formatRate(bytes: number, elapsedMs: number): string {
  const kilobits = elapsedMs > 0 ? (bytes * 8) / elapsedMs : 0;
  if (kilobits < 1_000) return `${kilobits.toFixed(1)} kbit/s`;
  return kilobits >= 1e6 ? `${(kilobits / 1e6).toFixed(2)} Gbit/s` : `${(kilobits / 1_000).toFixed(1)} Mbit/s`;
}

export function formatMilliseconds(milliseconds: number): string {
  return `${milliseconds < 10 ? milliseconds.toFixed(2) : milliseconds.toFixed(1)} ms`;
}

/** A length of time for people: its two largest units, such as 2 h 5 min. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1_000));
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const from = parts.findIndex(([value]) => value > 0);
  if (from === -1) return '0 s';
  return parts
    .slice(from, from + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}

/** Reads a size such as 500, 64K, 10M or 1GiB (powers of 1,024) as bytes; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const parts = /^([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(?:([KMGT])(?:i?B)?|B)?$/i.exec(text);
  if (parts === null) return undefined;
  const power = parts[2] === undefined ? 0 : 'KMGT'.indexOf(parts[2].toUpperCase()) + 1;
  const bytes = Math.round(Number(parts[1]) * 1_024 ** power);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The text without control characters, which a terminal would obey. */
export function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim();
}
