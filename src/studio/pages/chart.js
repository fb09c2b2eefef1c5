// Curves as SVG: axes, and what the curves are at the pointer.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 760, HEIGHT = 340, LEFT = 58, RIGHT = 12, TOP = 10, BOTTOM = 38;
const MOST = 600; // points of a curve that are drawn

function svg(tag, attributes = {}, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Round numbers between two.
function ticks(from, to, count, least = 0) {
  const rough = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step * 1e-9; at += step) found.push(at);
  return found;
}

const short = (n) => (n === 0 ? '0' : Math.abs(n) >= 1e5 || Math.abs(n) < 1e-3 ? n.toExponential(1) : String(+n.toPrecision(4)));

// Every n-th point, and the last.
function thinned(points) {
  const every = Math.ceil(points.length / MOST);
  return every <= 1 ? points : points.filter((_, index) => index % every === 0 || index === points.length - 1);
}

// `curves`: {name, colour (of a CSS variable), dashed, points: [[x, y]…]}.
// Marks of the x axis are whole numbers.
export function chart({ title, x, y, curves }) {
  const shown = curves.map((curve) => ({ ...curve, points: thinned(curve.points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b))) }))
    .filter((curve) => curve.points.length);
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'chart', role: 'img', 'aria-label': describe(title, shown) });
  if (!shown.length) {
    picture.append(svg('text', { x: WIDTH / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'nothing is logged yet'));
    return picture;
  }
  const all = shown.flatMap((curve) => curve.points);
  const bounds = (axis) => all.reduce(([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
  const [left, right] = bounds(0);
  let [low, high] = bounds(1);
  if (low === high) [low, high] = [low - 1, high + 1];
  const toX = (value) => LEFT + ((value - left) / (right - left || 1)) * (WIDTH - LEFT - RIGHT);
  const toY = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const value of ticks(low, high, 5)) {
    picture.append(svg('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: toY(value), y2: toY(value) }));
    picture.append(svg('text', { x: LEFT - 6, y: toY(value) + 4, 'text-anchor': 'end' }, short(value)));
  }
  for (const value of ticks(left, right, 6, 1)) {
    picture.append(svg('text', { x: toX(value), y: HEIGHT - BOTTOM + 16, 'text-anchor': 'middle' }, short(value)));
  }
  picture.append(svg('text', { x: WIDTH - RIGHT, y: HEIGHT - 4, 'text-anchor': 'end' }, x));
  picture.append(svg('text', { x: 4, y: HEIGHT - 4 }, y));
  for (const curve of shown) {
    const d = curve.points.map(([a, b], index) => `${index ? 'L' : 'M'}${toX(a).toFixed(1)} ${toY(b).toFixed(1)}`).join('');
    const path = svg('path', { d });
    path.style.stroke = `var(${curve.colour})`;
    if (curve.dashed) path.style.strokeDasharray = '5 4';
    if (curve.points.length === 1) path.setAttribute('d', `${d}h3`);
    picture.append(path);
  }
  const line = svg('line', { class: 'grid', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' });
  const label = svg('text', { y: TOP + 12 });
  picture.append(line, label);
  picture.addEventListener('pointermove', (event) => {
    const box = picture.getBoundingClientRect();
    const at = left + (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (right - left);
    if (at < left || at > right) return;
    line.setAttribute('x1', toX(at));
    line.setAttribute('x2', toX(at));
    line.setAttribute('visibility', 'visible');
    const values = shown.map((curve) => {
      const nearest = curve.points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
      return `${curve.name} ${short(nearest[1])}`;
    });
    label.textContent = `${short(Math.round(at))}: ${values.slice(0, 4).join(' · ')}`;
    const late = at > (left + right) / 2;
    label.setAttribute('x', toX(at) + (late ? -6 : 6));
    label.setAttribute('text-anchor', late ? 'end' : 'start');
  });
  picture.addEventListener('pointerleave', () => { line.setAttribute('visibility', 'hidden'); label.textContent = ''; });
  return picture;
}

function describe(title, curves) {
  const ends = curves.map((curve) => `${curve.name} ends at ${short(curve.points.at(-1)[1])}`);
  return `${title}. ${ends.join(', ')}`;
}
