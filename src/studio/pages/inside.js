// Inside a model: attention, the logit lens, norms, channels, patching.
import { chart } from './chart.js';
import { matrix } from './matrix.js';
import { vectors } from './vectors.js';
import { element, field, modelChoice, opening, percent, post, say, shade, visible } from './page.js';

// Lines from each query (right) to the keys (left) that it attends to.
function lines(tokens, weights, selected) {
  const SVG = 'http://www.w3.org/2000/svg';
  const [height, width] = [22, 420];
  const picture = document.createElementNS(SVG, 'svg');
  picture.setAttribute('viewBox', `0 0 ${width} ${tokens.length * height + 8}`);
  picture.setAttribute('class', 'lines');
  picture.style.maxWidth = `${width}px`;
  picture.setAttribute('role', 'img');
  picture.setAttribute('aria-label', 'lines from each token to those that it attends to');
  const put = (tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    picture.append(made);
    return made;
  };
  const at = (index) => index * height + 18;
  weights.forEach((row, query) => row.forEach((weight, key) => {
    if (weight < 0.02 || (selected !== null && selected !== query)) return;
    const line = put('line', { x1: 110, x2: width - 110, y1: at(key) - 4, y2: at(query) - 4, 'stroke-width': 2 });
    line.style.stroke = `rgba(var(--shade), ${weight})`;
  }));
  tokens.forEach((token, index) => {
    put('text', { x: 104, y: at(index), 'text-anchor': 'end' }, visible(token.text));
    put('text', { x: width - 104, y: at(index) }, visible(token.text));
  });
  return picture;
}

export default async function inside(page) {
  const model = await modelChoice('Model');
  const text = element('textarea', { value: await opening(model.value, 'To be, or not to be', 24), 'aria-label': 'Text' });
  const shown = element('div');
  const look = async () => {
    if (!model.value) { say('There is no model yet; start a run first.'); return; }
    try {
      const asked = { model: model.value, text: text.value };
      const found = await post('/api/inside', asked);
      shown.replaceChildren(...await sections(asked, found));
    } catch (error) {
      shown.replaceChildren(element('p', { className: 'panel bad', text: error.message }));
    }
  };
  page.append(
    element('h1', { text: 'Inside a model' }),
    element('form', { className: 'panel', submit: (event) => { event.preventDefault(); look(); } },
      text, element('div', { className: 'row' }, field('Model', model), element('button', { className: 'primary', text: 'Look' }))),
    shown);
  if (model.value) await look();
}

async function sections(asked, found) {
  const { tokens, layers, heads } = found;
  let position = tokens.length - 1;
  const update = [];
  const row = element('div', { className: 'tokens', role: 'group', 'aria-label': 'Tokens; choose a position' });
  const drawRow = () => row.replaceChildren(...tokens.map((token, index) => element('button', {
    type: 'button', className: 'token', text: visible(token.text), title: `position ${index}, token ${token.id}`,
    'aria-pressed': index === position, click: () => { position = index; drawRow(); update.forEach((each) => each()); },
  })));
  drawRow();

  // Attention.
  const layer = element('select', { 'aria-label': 'Layer' }, ...Array.from({ length: layers }, (_, n) => element('option', { value: n, text: `layer ${n}` })));
  const grid = element('div', { className: 'heads', role: 'group', 'aria-label': 'Heads' });
  const large = element('div', { className: 'columns two' });
  let [head, weights] = [0, []];
  const drawHead = () => {
    for (const [index, button] of [...grid.children].entries()) button.setAttribute('aria-pressed', index === head);
    const of = weights[head];
    const strongest = of[position].map((weight, key) => [weight, key]).sort((a, b) => b[0] - a[0]).slice(0, 4);
    large.replaceChildren(
      element('div', {}, element('h3', { text: `Head ${layer.value}.${head}: a row for each token, a column for each that it looks at` }),
        matrix(of, Math.min(340, 18 * tokens.length + 40), `attention of head ${head} in layer ${layer.value}`),
        element('p', { text: `${visible(tokens[position].text)} (position ${position}) looks at ${strongest.map(([weight, key]) => `${visible(tokens[key].text)} (${key}) ${percent(weight)}`).join(', ')}` })),
      element('div', { className: 'scroll' }, element('h3', { text: 'Lines from the chosen token' }), lines(tokens, of, position)));
  };
  const drawLayer = async () => {
    ({ heads: weights } = await post('/api/attention', { ...asked, layer: Number(layer.value) }));
    grid.replaceChildren(...weights.map((of, index) => element('button', { type: 'button', click: () => { head = index; drawHead(); } },
      `head ${index}`, matrix(of, 84, `attention of head ${index}`))));
    head = Math.min(head, heads - 1);
    drawHead();
  };
  layer.addEventListener('change', () => drawLayer().catch((error) => say(error.message)));
  update.push(drawHead);
  await drawLayer();

  // What each layer would already say.
  const lens = element('table', { className: 'lens' });
  const drawLens = () => {
    const head = element('tr', {}, element('th', { scope: 'col', text: 'after' }), ...tokens.map((token) => element('th', { scope: 'col', text: visible(token.text) })));
    const rows = found.lens.map((said, depth) => element('tr', {}, element('th', { scope: 'row', text: depth ? `layer ${depth - 1}` : 'embedding' }),
      ...said.map((list) => {
        const cell = element('td', { text: visible(list[0][0]), title: list.map(([other, share]) => `${visible(other)} ${percent(share)}`).join('\n') });
        cell.style.background = shade(list[0][1]);
        return cell;
      })));
    lens.replaceChildren(head, ...rows.reverse());
  };
  drawLens();
  const said = element('div');
  const drawSaid = () => said.replaceChildren(element('p', { text: `After ${visible(tokens[position].text)} (position ${position}) the model says ${found.lens.at(-1)[position].map(([other, share]) => `${visible(other)} ${percent(share)}`).join(', ')}` }));
  drawSaid();
  update.push(drawSaid);

  // Norms and channels.
  const norms = chart();
  norms.show({ title: 'Norm of the residual stream by layer', x: 'layers before it', y: 'norm', curves: tokens.slice(0, 12).map((token, index) => ({
    name: `${visible(token.text)} ${index}`, colour: `--c${index % 6}`, points: found.norms.map((list, depth) => [depth, list[index]]),
  })) });
  const channels = element('table', {});
  const drawChannels = () => channels.replaceChildren(
    element('tr', {}, element('th', { text: 'layer' }), element('th', { text: `strongest channels at ${visible(tokens[position].text)} (position ${position}), with their activations` })),
    ...found.channels.map((list, depth) => element('tr', {}, element('td', { text: depth }), element('td', { text: list[position].map(([channel, value]) => `${channel}: ${value.toFixed(2)}`).join(' · ') }))));
  drawChannels();
  update.push(drawChannels);

  return [
    element('section', { className: 'panel' }, element('h2', { text: `${tokens.length} tokens, ${layers} layers, ${heads} heads` }), row),
    element('section', { className: 'panel' }, element('h2', { text: 'Attention' }), element('div', { className: 'row' }, field('Layer', layer)), grid, large),
    element('section', { className: 'panel' }, element('h2', { text: 'Logit lens: what each layer would already say comes next' }), element('div', { className: 'scroll' }, lens), said),
    element('div', { className: 'columns two' },
      element('section', { className: 'panel' }, element('h2', { text: 'Residual stream: norm by layer' }), norms.element),
      element('section', { className: 'panel' }, element('h2', { text: 'MLP: strongest channels' }), element('div', { className: 'scroll' }, channels))),
    patching(asked, tokens),
    ...await vectors(asked),
  ];
}

// One position of the residual stream from another text, at each layer.
function patching(asked, tokens) {
  const source = element('input', { value: asked.text.replace(/[a-z](?=[^a-z]*$)/, 'x'), size: 40, 'aria-label': 'The other text' });
  const position = element('input', { type: 'number', min: 0, max: tokens.length - 1, value: tokens.length - 1 });
  const from = element('input', { type: 'number', min: 0, max: 63, value: tokens.length - 1 });
  const result = element('div', { className: 'scroll' });
  const run = async (event) => {
    event.preventDefault();
    try {
      const { before, instead, layers } = await post('/api/patch', { ...asked, source: source.value, position: Number(position.value), source_position: Number(from.value) });
      const rows = layers.map((layer) => {
        const bar = element('div', { className: 'bar' });
        bar.style.width = `${100 * layer.instead}%`;
        const cell = element('td', {}, bar);
        cell.style.width = '10rem';
        return element('tr', {}, element('td', { text: layer.name }), element('td', { className: 'number', text: percent(layer.before) }),
          element('td', { className: 'number', text: percent(layer.instead) }), cell, element('td', { text: layer.said.map(([other, share]) => `${visible(other)} ${percent(share)}`).join(', ') }));
      });
      result.replaceChildren(
        element('p', { text: `The text goes on with ${visible(before.text)} (${percent(before.probability)}), the other with ${visible(instead.text)} (${percent(instead.probability)}; here ${percent(before.instead)}).` }),
        element('table', {}, element('tr', {}, ...['patched', `says ${visible(before.text)}`, `says ${visible(instead.text)}`, '', 'says'].map((name) => element('th', { text: name }))), ...rows));
    } catch (error) { say(error.message); }
  };
  return element('form', { className: 'panel', submit: run },
    element('h2', { text: 'Patching: one position from another text' }),
    element('p', { className: 'quiet', text: 'Runs the text again and again, each time with the residual stream before one layer replaced, at one position, by the other text’s.' }),
    element('div', { className: 'row' }, field('Other text', source), field('Position here', position), field('Position there', from), element('button', { text: 'Patch' })), result);
}
