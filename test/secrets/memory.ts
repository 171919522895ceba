/** Looks for byte strings in the memory of another process (proc(5), /proc/PID/mem). */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const CHUNK = 2 ** 20;
const PAGE = 4_096;
const EMPTY = Buffer.alloc(PAGE);
/** Half a key is as good as lost; what is overwritten in part counts. */
const NEEDLE = 16;

/** Which of the secrets lie anywhere in the writable memory of `pid`, and how often. */
export function findIn(pid: number, secrets: ReadonlyMap<string, Uint8Array>): Map<string, number> {
  const needles = [...secrets].flatMap(([name, bytes]) =>
    [bytes.subarray(0, NEEDLE), bytes.subarray(NEEDLE)].map((needle) => ({ name, needle })),
  );
  const byStart = new Map<number, { name: string; needle: Uint8Array }[]>();
  for (const entry of needles) {
    const start = (entry.needle[0]! | (entry.needle[1]! << 8)) & 0xffff;
    byStart.set(start, [...(byStart.get(start) ?? []), entry]);
  }
  const starts = new Uint8Array(65_536);
  for (const start of byStart.keys()) starts[start] = 1;
  const found = new Map<string, number>();
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const chunk = Buffer.alloc(CHUNK + NEEDLE);
  try {
    for (const [from, to] of writableRanges(pid)) {
      for (let at = from; at < to; at += CHUNK) {
        const length = readSome(memory, chunk, at, Math.min(CHUNK + NEEDLE, to - at));
        for (let page = 0; page + NEEDLE <= length; page += PAGE) {
          if (page + PAGE <= length && chunk.compare(EMPTY, 0, PAGE, page, page + PAGE) === 0) continue;
          const end = Math.min(page + PAGE, length - NEEDLE + 1);
          for (let i = page; i < end; i++) {
            if (starts[chunk[i]! | (chunk[i + 1]! << 8)] === 0) continue;
            for (const { name, needle } of byStart.get(chunk[i]! | (chunk[i + 1]! << 8)) ?? []) {
              if (chunk.compare(needle, 0, NEEDLE, i, i + NEEDLE) === 0) found.set(name, (found.get(name) ?? 0) + 1);
            }
          }
        }
      }
    }
  } finally {
    closeSync(memory);
  }
  return found;
}

/** Mappings that may be written and have pages in memory. */
function writableRanges(pid: number): [number, number][] {
  const ranges: [number, number][] = [];
  let range: [number, number] | undefined;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const parts = /^([0-9a-f]+)-([0-9a-f]+) (..)/.exec(line);
    if (parts !== null) {
      range = parts[3] === 'rw' ? [Number.parseInt(parts[1]!, 16), Number.parseInt(parts[2]!, 16)] : undefined;
    } else if (range !== undefined && /^(Rss|Swap): +[1-9]/.test(line)) {
      ranges.push(range);
      range = undefined;
    }
  }
  return ranges;
}

/** What cannot be read (a hole, a device) counts as empty. */
function readSome(file: number, buffer: Buffer, at: number, length: number): number {
  try {
    return readSync(file, buffer, 0, length, at);
  } catch {
    return 0;
  }
}
