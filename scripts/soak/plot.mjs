/** Lines over time as one SVG. */
const WIDTH = 760;
const HEIGHT = 300;
const MARGIN = 50;
const COLOURS = ['#1565c0', '#c62828', '#2e7d32', '#6a1b9a'];

/**
 * @param {{ name: string, points: [number, number][] }[]} lines x in minutes
 * @param {{ label: string, shadedUntil: number }} options
 */
export function plot(lines, { label, shadedUntil }) {
  const points = lines.flatMap((line) => line.points);
  const longest = Math.max(1, ...points.map(([x]) => x));
  const most = Math.max(1, ...points.map(([, y]) => y)) * 1.1;
  const x = (value) => MARGIN + (value / longest) * WIDTH;
  const y = (value) => MARGIN / 2 + HEIGHT - (value / most) * HEIGHT;
  const parts = [0, 0.25, 0.5, 0.75, 1];
  const levels = parts.map((part) => {
    const at = y(most * part).toFixed(1);
    return `<line x1="${MARGIN}" y1="${at}" x2="${MARGIN + WIDTH}" y2="${at}" stroke="#dddddd"/><text x="${MARGIN - 6}" y="${at}" text-anchor="end">${Math.round(most * part)}</text>`;
  });
  const ticks = parts.map(
    (part) =>
      `<text x="${x(longest * part)}" y="${y(0) + 16}" text-anchor="middle">${(longest * part).toFixed(1)}</text>`,
  );
  const drawn = lines.map(({ name, points: own }, i) => {
    const path = own.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ');
    return `<polyline points="${path}" fill="none" stroke="${COLOURS[i % COLOURS.length]}" stroke-width="1.5"/><text x="${MARGIN + 10}" y="${y(0) - 10 - 16 * i}" fill="${COLOURS[i % COLOURS.length]}">${name}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH + 2 * MARGIN} ${HEIGHT + 2 * MARGIN}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<rect x="${MARGIN}" y="${y(most)}" width="${x(shadedUntil) - MARGIN}" height="${HEIGHT}" fill="#f3f3f3"/>
${[...levels, ...ticks, ...drawn].join('\n')}
<text x="${MARGIN + WIDTH / 2}" y="${y(0) + 36}" text-anchor="middle">${label}</text>
</svg>
`;
}
