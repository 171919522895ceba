/** The benchmark's two curves as one SVG: throughput over the size of UDP messages and over the number of TCP streams. */
const WIDTH = 380;
const HEIGHT = 240;
const MARGIN = 46;
const COLOURS = { ours: '#1565c0', theirs: '#c62828' };
const NAMES = { ours: 'Sealane', theirs: 'wireguard-go' };

/** @typedef {Record<'ours' | 'theirs', [number, number][]>} Curves */

/** @param {{ sizes: Curves, streams: Curves }} curves */
export function chart({ sizes, streams }) {
  const panels = [panel(sizes, 'bytes a UDP message', 0), panel(streams, 'TCP streams', WIDTH + MARGIN)];
  const width = 2 * WIDTH + 3 * MARGIN;
  const height = HEIGHT + 2 * MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
${panels.join('\n')}
</svg>
`;
}

/** @type {(curves: Curves, label: string, shift: number) => string} */
function panel(curves, label, shift) {
  const points = Object.values(curves).flat();
  const most = Math.max(...points.map(([, y]) => y)) * 1.1;
  const xs = [...new Set(points.map(([x]) => x))].toSorted((a, b) => a - b);
  /** @param {number} value */
  const x = (value) => MARGIN + (xs.indexOf(value) / (xs.length - 1)) * WIDTH;
  /** @param {number} value */
  const y = (value) => MARGIN / 2 + HEIGHT - (value / most) * HEIGHT;
  const base = y(0);
  const ticks = xs.map((value) => `<text x="${x(value)}" y="${base + 16}" text-anchor="middle">${value}</text>`);
  const levels = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(most * part);
    return `<line x1="${MARGIN}" y1="${at}" x2="${MARGIN + WIDTH}" y2="${at}" stroke="#dddddd"/><text x="${MARGIN - 6}" y="${at + 4}" text-anchor="end">${(most * part).toFixed(1)}</text>`;
  });
  const lines = /** @type {('ours' | 'theirs')[]} */ (['ours', 'theirs']).map((name, i) => {
    const curve = curves[name];
    const path = curve.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ');
    return `<polyline points="${path}" fill="none" stroke="${COLOURS[name]}" stroke-width="2"/><text x="${MARGIN + 10}" y="${MARGIN + 16 * i}" fill="${COLOURS[name]}">${NAMES[name]}</text>`;
  });
  return `<g transform="translate(${shift} 0)">
${[...levels, ...ticks, ...lines].join('\n')}
<text x="${MARGIN + WIDTH / 2}" y="${base + 36}" text-anchor="middle">Gbit/s over ${label}</text>
</g>`;
}
