// Curves by uPlot: a drag zooms in, a double click out, and the legend says what the curves are at the pointer.

const HEIGHT = 300;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (n) => (n === null || n === undefined ? '' : n === 0 ? '0' : Math.abs(n) >= 1e5 || Math.abs(n) < 1e-3 ? n.toExponential(1) : String(+n.toPrecision(4)));

function describe(title, curves) {
  const ends = curves.map((curve) => `${curve.name} ends at ${short(curve.points.at(-1)[1])}`);
  return `${title}. ${ends.join(', ')}`;
}

// All values of x, and of each curve a value at each of them, or none: [[x…], [y…]…].
function aligned(curves) {
  return uPlot.join(curves.map(({ points }) => [points.map(([x]) => x), points.map(([, y]) => y)]));
}

function options({ x, y }, curves, width) {
  const axis = (label) => ({
    label, labelSize: 18, labelFont: '12px system-ui', font: '12px system-ui', stroke: () => css('--quiet'),
    grid: { stroke: () => css('--line'), width: 1 }, ticks: { stroke: () => css('--line'), width: 1 },
  });
  return {
    width, height: HEIGHT, scales: { x: { time: false } },
    axes: [axis(x), { ...axis(y), size: 62, values: (_, ticks) => ticks.map(short) }],
    cursor: { y: false },
    series: [{ label: x, value: (_, at) => short(at) }, ...curves.map((curve) => ({
      label: curve.name, stroke: () => css(curve.colour), width: 1.8, dash: curve.dashed ? [5, 4] : undefined, spanGaps: true,
      points: { show: curve.points.length === 1 }, value: (_, at) => short(at),
    }))],
  };
}

// A picture of curves, and what shows others in it: `show({title, x, y, curves})` with curves of {name, colour (a CSS variable),
// dashed, points: [[x, y]…]}, x ascending. Where the curves are the same ones, a zoom stays.
export function chart() {
  const element = document.createElement('div');
  element.className = 'curves';
  element.setAttribute('role', 'img');
  let [plot, key, drawn] = [null, '', null];
  const draw = () => {
    const width = element.clientWidth;
    if (!drawn || !width) return;
    const { labels, curves } = drawn;
    const same = JSON.stringify([labels, curves.map(({ name, colour, dashed, points }) => [name, colour, dashed, points.length === 1])]);
    if (plot && same === key) {
      plot.setData(aligned(curves), plot.scales.x.min === plot.data[0][0] && plot.scales.x.max === plot.data[0].at(-1));
      if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
      return;
    }
    plot?.destroy();
    key = same;
    element.replaceChildren();
    plot = curves.length ? new uPlot(options(labels, curves, width), aligned(curves), element) : null;
    if (!plot) element.append('nothing is logged yet');
  };
  new ResizeObserver(draw).observe(element);
  element.redraw = () => plot?.redraw(false);
  return {
    element,
    show({ curves, ...labels }) {
      const finite = curves.map((curve) => ({ ...curve, points: curve.points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b)) }));
      drawn = { labels, curves: finite.filter((curve) => curve.points.length) };
      element.dataset.curves = drawn.curves.length;
      element.setAttribute('aria-label', describe(labels.title, drawn.curves));
      draw();
    },
  };
}

// The colours are those of the theme.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const element of document.querySelectorAll('.curves')) element.redraw();
});
