// Tokens and positions as vectors: neighbours, a plane of two components, cosines.
import { matrix } from './matrix.js';
import { element, post, visible } from './page.js';

const [WIDTH, HEIGHT, MARGIN] = [560, 380, 24];

// Points {text, x, y, own} as labels.
function plane(points) {
  const SVG = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(SVG, 'svg');
  picture.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute('class', 'lines');
  picture.setAttribute('role', 'img');
  picture.setAttribute('aria-label', `${points.length} tokens in the plane of their two principal components`);
  const spread = (axis) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return (value) => (value - low) / (high - low || 1);
  };
  const [x, y] = [spread('x'), spread('y')];
  for (const point of points) {
    const label = document.createElementNS(SVG, 'text');
    label.setAttribute('x', MARGIN + x(point.x) * (WIDTH - 3 * MARGIN));
    label.setAttribute('y', HEIGHT - MARGIN - y(point.y) * (HEIGHT - 2 * MARGIN));
    label.setAttribute('class', point.own ? 'own' : 'other');
    label.textContent = visible(point.text);
    picture.append(label);
  }
  return picture;
}

export async function vectors(asked) {
  const { tokens, plane: points, positions } = await post('/api/vectors', asked);
  const rows = tokens.map((token) => element('tr', {}, element('td', { text: visible(token.text) }),
    element('td', { text: token.neighbours.map(([text, cosine]) => `${visible(text)} ${cosine.toFixed(2)}`).join(' · ') })));
  const sections = [element('section', { className: 'panel' },
    element('h2', { text: 'Embeddings: tokens that have similar vectors' }),
    element('div', { className: 'columns two' },
      element('div', { className: 'scroll' }, element('table', { 'aria-label': 'Neighbours' }, element('tr', {}, element('th', { text: 'token' }), element('th', { text: 'nearest, with the cosine between the vectors' })), ...rows)),
      element('div', {}, element('h3', { text: 'In the plane in which they differ most: tokens of the text, and their neighbours in grey' }), plane(points))))];
  const note = positions
    ? [matrix(positions.map((row) => row.map((cosine) => Math.max(0, cosine))), 340, 'cosines between the vectors of positions'),
      element('p', { className: 'quiet', text: 'A row and a column for each position; dark: similar vectors. A trained model gives neighbouring positions similar ones.' })]
    : [element('p', { text: 'This model has no vectors of positions: its attention rotates queries and keys by their positions (RoPE).' })];
  sections.push(element('section', { className: 'panel' }, element('h2', { text: 'Positions' }), ...note));
  return sections;
}
