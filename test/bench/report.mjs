/** The rows of the whole-tunnel benchmark as a table: the ratio first, then medians and spread of both. */

/** @typedef {Map<string, Record<string, number[]>>} Samples measures of each setting, a number a round */
/** @typedef {{ id: string, text: string, goal: string, ours: number[], theirs: number[] }} Row */

/** Goal, what, and where both numbers come from: setting and measure. */
const ROWS = /** @type {const} */ ([
  ['P1', 'TCP, one stream, Gbit/s', 'ours', 'theirs', 'tcp', '>= 1.4'],
  ['P2', 'the same, AES-256-GCM', 'ours, AES-256-GCM', 'theirs', 'tcp', '>= 1.8'],
  ['P3', 'ping at rest, p50, ms', 'ours', 'theirs', 'idlePing', '<= 0.5'],
  ['P3', 'ping under load, p99, ms', 'ours', 'theirs', 'loadedPing', '<= 1'],
  ['P4', 'UDP of 64 bytes, packets/s', 'ours', 'theirs', 'smallPackets', '>= 1'],
  ['P5', 'handshakes/s as responder', 'ours', 'theirs', 'handshakes', '>= 1'],
  ['P6', 'UDP of 1372 bytes, Gbit/s', 'ours', 'theirs', 'udpBulk', '>= 1.1'],
  ['P6', 'TCP, IPv6 in IPv6, Gbit/s', 'ours, IPv6', 'theirs, IPv6', 'ipv6', '>= 1.1'],
  ['P6', 'TCP, 10 streams, Gbit/s', 'ours', 'theirs', 'tenStreams', '>= 1.1'],
  ['P7', 'TCP, ours to theirs, Gbit/s', 'ours to theirs', 'theirs', 'tcp', '>= 1'],
  ['P7', 'TCP, theirs to ours, Gbit/s', 'theirs to ours', 'theirs', 'tcp', '>= 1'],
  ['P8', 'start to ready, ms', 'ours', 'theirs', 'ready', '< 250 ms'],
  ['P9', 'resident memory at full rate, MiB', 'ours', 'theirs', 'rss', '<= 120 MiB'],
]);

/**
 * The rows for which there are samples of both.
 * @param {Samples} samples
 * @returns {Row[]}
 */
export function rowsOf(samples) {
  return ROWS.flatMap(([id, text, own, other, measure, goal]) => {
    const ours = samples.get(own)?.[measure];
    const theirs = samples.get(other)?.[measure];
    return ours === undefined || theirs === undefined ? [] : [{ id, text, goal, ours, theirs }];
  });
}

/** @param {Row[]} rows */
export function table(rows) {
  const lines = rows.map(
    ({ id, text, goal, ours, theirs }) =>
      `| ${id} | ${text} | **${(median(ours) / median(theirs)).toFixed(2)}** | ${goal} | ${spread(ours)} | ${spread(theirs)} |`,
  );
  return [
    '| id | what | ratio | goal | ours: median (spread) | wireguard-go |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

/**
 * Cost against size: processor time a packet, and how it compares with the smallest size.
 * @typedef {Record<string, import('./scaling.mjs').Cost[]>} Costs
 * @param {{ ours: Costs, theirs: Costs }} scaling
 */
export function scalingTable({ ours, theirs }) {
  const lines = Object.entries(ours).flatMap(([what, costs]) =>
    costs.map((cost, i) => {
      const other = theirs[what]?.[i];
      return `| P11 | ${what}: ${cost.size} | ${against(cost, costs[0])} | ${other === undefined ? '' : against(other, theirs[what]?.[0])} | ${cost.rss.toFixed(0)} |`;
    }),
  );
  return [
    '| id | size | ours: ns a packet (to the smallest) | wireguard-go | our MiB |',
    '|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

/** @type {(cost: import('./scaling.mjs').Cost, smallest: import('./scaling.mjs').Cost | undefined) => string} */
function against({ nanoseconds }, smallest) {
  return `${nanoseconds.toFixed(0)} (${(nanoseconds / (smallest?.nanoseconds ?? nanoseconds)).toFixed(2)})`;
}

/** @type {(sorted: number[], q: number) => number} */
export const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN;

/** @param {number[]} list */
const median = (list) =>
  quantile(
    list.toSorted((x, y) => x - y),
    0.5,
  );
/** @param {number} value */
const show = (value) => (value >= 1_000 ? Math.round(value).toString() : value.toPrecision(3));
/** @param {number[]} list */
const spread = (list) => `${show(median(list))} (${show(Math.min(...list))} - ${show(Math.max(...list))})`;
