/** Text and file forms of bytes, for tests. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export function unhex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

export function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** A file of test/vectors, parsed; the caller names its shape. */
export function vectors<T>(path: string): T {
  return JSON.parse(
    readFileSync(fileURLToPath(new URL(`../../../../test/vectors/${path}`, import.meta.url)), 'utf8'),
  ) as T;
}

/** An address in text as 4 or 16 bytes; knows `::` but no embedded IPv4. */
export function ip(text: string): Uint8Array {
  if (text.includes('.')) return Uint8Array.from(text.split('.'), Number);
  const [head = '', tail] = text.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const words = [...before, ...Array.from({ length: zeros }, () => '0'), ...after].map((word) =>
    Number.parseInt(word, 16),
  );
  return Uint8Array.from(words.flatMap((word) => [word >>> 8, word & 0xff]));
}
